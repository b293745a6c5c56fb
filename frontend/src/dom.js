// Elements, built without markup, so that no text of a study is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(node.dataset, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

export const h = (name, attributes, ...children) =>
  filled(document.createElement(name), attributes, children);

export const s = (name, attributes, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

export const byId = (id) => document.getElementById(id);

export function option(value, text, selected) {
  return h("option", { value, selected: selected || undefined }, text);
}

export function select(label, options, value, onchange) {
  const list = h("select", { onchange: (event) => onchange(event.target.value) });
  for (const [key, text] of options) list.append(option(key, text, key === value));
  return h("label", { class: "choice" }, h("span", {}, label), list);
}

export function dot(colour) {
  return h("span", { class: "dot", style: `background:${colour}`, "aria-hidden": "true" });
}
