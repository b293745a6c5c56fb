// The argument map as a tree: theses on the left, what bears on them to the right; sections and claims fold.

import { hierarchy, tree as treeLayout } from "d3-hierarchy";
import { select } from "d3-selection";
import { linkHorizontal } from "d3-shape";
import { zoom, zoomIdentity } from "d3-zoom";
import { byId, h, s } from "./dom.js";
import { credence, data, follow } from "./page.js";
import { goTo } from "./route.js";

const WIDTH = 226;
const COLUMN = 292;
const ROW = 62;
const HEIGHT = 54;
const LINE = 16;
const MOVED = 0.005;
const COLOURS = {
  support: "var(--good)",
  premise: "var(--soft)",
  attack: "var(--bad)",
  undercut: "var(--bad)",
  "": "var(--soft)",
};
const WORDS = {
  support: "supports",
  premise: "is a premise",
  attack: "attacks",
  undercut: "undercuts",
  "": "",
};

const canvas = document.createElement("canvas").getContext("2d");

function wrap(text, width, lines, font) {
  canvas.font = font;
  const found = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    const longer = line ? `${line} ${word}` : word;
    if (!line || canvas.measureText(longer).width <= width) line = longer;
    else {
      found.push(line);
      line = word;
    }
  }
  found.push(line);
  const shown = found.slice(0, lines).map((each) => cut(each, width));
  if (found.length > lines) shown[lines - 1] = cut(`${shown[lines - 1]}\u2026`, width);
  return shown;
}

function cut(text, width) {
  if (canvas.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && canvas.measureText(`${text.slice(0, end)}\u2026`).width > width) end -= 1;
  return `${text.slice(0, end)}\u2026`;
}

export function startMap() {
  const place = byId("argument-map");
  if (!place || !data.map) return;
  const { nodes, claims } = data.map;
  const children = new Map();
  for (const node of nodes) children.set(node.parent, [...(children.get(node.parent) ?? []), node]);
  const byNode = new Map(nodes.map((node) => [node.id, node]));
  const isClaim = (node) => node.kind === "claim" || node.kind === "thesis";
  const moved = (title) =>
    Math.abs(claims[title].after - claims[title].before) >= MOVED ||
    (claims[title].test && !claims[title].test.untested);
  const open = new Set();

  function openTo(depth) {
    open.clear();
    const walk = (node, level) => {
      if (level < depth) open.add(node.id);
      for (const child of children.get(node.id) ?? []) walk(child, level + 1);
    };
    for (const root of children.get(null) ?? []) walk(root, 0);
  }

  function reveal(node) {
    for (let above = byNode.get(node.parent); above; above = byNode.get(above.parent)) open.add(above.id);
  }

  function openMoved() {
    openTo(2);
    for (const node of nodes) if (isClaim(node) && moved(node.title)) reveal(node);
  }

  const svg = s("svg", { class: "tree", role: "tree", "aria-label": "Argument map" });
  const links = s("g", { "aria-hidden": "true" });
  const boxes = s("g", { role: "presentation" });
  const scene = s("g", { role: "presentation" }, links, boxes);
  svg.append(scene);
  const frame = h("div", { class: "map-frame" }, svg);
  const pan = zoom()
    .scaleExtent([0.15, 2.5])
    .filter((event) => (event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button))
    .on("zoom", (event) => scene.setAttribute("transform", event.transform));
  select(svg).call(pan).on("dblclick.zoom", null);

  let extent = [0, 0, 1, 1];
  let order = [];
  let active = null;

  function fit(all) {
    const { clientWidth: width, clientHeight: height } = svg;
    const [x0, y0, x1, y1] = extent;
    const scale = Math.min(1, (width - 24) / (x1 - x0), all ? (height - 24) / (y1 - y0) : 1);
    const least = all ? 0.15 : 0.55;
    const k = Math.max(scale, least);
    const y = all ? height / 2 - (k * (y0 + y1)) / 2 : height / 2;
    select(svg).call(pan.transform, zoomIdentity.translate(12 - k * x0, y).scale(k));
  }

  function centre(id) {
    const at = order.find((each) => each.data.id === id);
    if (!at) return;
    const k = Number((scene.getAttribute("transform") ?? "").match(/scale\(([\d.e-]+)/)?.[1] ?? 1);
    select(svg).call(
      pan.transform,
      zoomIdentity
        .translate(svg.clientWidth / 2 - k * (at.y + WIDTH / 2), svg.clientHeight / 2 - k * at.x)
        .scale(k),
    );
  }

  function layout() {
    const root = hierarchy({ id: null, kind: "root" }, (node) =>
      node.id === null || open.has(node.id) ? children.get(node.id) : null,
    );
    treeLayout()
      .nodeSize([ROW, COLUMN])
      .separation((a, b) => (a.parent === b.parent ? 1 : 1.15))(root);
    return root.descendants().filter((node) => node.data.id !== null);
  }

  function draw() {
    order = layout();
    extent = [
      Math.min(...order.map((n) => n.y)),
      Math.min(...order.map((n) => n.x)) - ROW / 2,
      Math.max(...order.map((n) => n.y)) + WIDTH + 40,
      Math.max(...order.map((n) => n.x)) + ROW / 2,
    ];
    const line = linkHorizontal()
      .x((p) => p[0])
      .y((p) => p[1]);
    links.replaceChildren(
      ...order
        .filter((node) => node.parent && node.parent.data.id !== null)
        .map((node) =>
          s("path", {
            d: line({ source: [node.parent.y + WIDTH, node.parent.x], target: [node.y, node.x] }),
            fill: "none",
            stroke: COLOURS[node.data.sign] ?? COLOURS[""],
            "stroke-width": 1.6,
            "stroke-opacity": 0.7,
            "stroke-dasharray": node.data.sign === "undercut" ? "5 4" : null,
          }),
        ),
    );
    boxes.replaceChildren(...order.map(box));
    if (!order.some((node) => node.data.id === active)) active = order[0]?.data.id ?? null;
    for (const item of boxes.children) item.setAttribute("tabindex", item.dataset.id === active ? 0 : -1);
  }

  // A claim's credence: now, whether results have moved it, and in words. Null of other nodes.
  function credenceOf({ data }) {
    if (!isClaim(data)) return null;
    const { before } = claims[data.title];
    const now = credence(data.title);
    const moved = Math.abs(now - before) >= MOVED;
    const words = moved ? `${before.toFixed(2)} \u2192 ${now.toFixed(2)}` : now.toFixed(2);
    return { before, now, moved, words };
  }

  function spoken({ kind, title, sign }, found, test) {
    const words = [
      `${title}.`,
      kind,
      WORDS[sign],
      found ? `credence ${found.words}` : "",
      test?.untested ? " not tested" : "",
    ];
    return words.filter(Boolean).join(", ");
  }

  function box(node) {
    const { id, kind, title, sign } = node.data;
    const below = (children.get(id) ?? []).length;
    const found = credenceOf(node);
    const test = found ? claims[title].test : null;
    const font = `${kind === "thesis" || kind === "section" ? "700 " : ""}12px system-ui, sans-serif`;
    canvas.font = font;
    const room = WIDTH - 22 - (found ? canvas.measureText(found.words).width + 10 : 0);
    const top = node.x - HEIGHT / 2;
    const stripe = { x: node.y, y: top + 7, width: 4, height: HEIGHT - 14, rx: 2 };
    return s(
      "g",
      {
        class: `node ${kind}${test && !test.untested ? " tested" : ""}`,
        role: "treeitem",
        "aria-level": node.depth,
        "aria-expanded": below ? String(open.has(id)) : null,
        "aria-label": spoken(node.data, found, test),
        dataset: { id },
        onclick: () => pressed(node),
        onkeydown: (event) => key(event, node),
        onfocus: () => (active = id),
      },
      s("rect", { class: "face", x: node.y, y: top, width: WIDTH, height: HEIGHT, rx: 7 }),
      s("rect", { ...stripe, fill: COLOURS[sign] ?? COLOURS[""] }),
      wrap(title, room, 2, font).map((text, i) =>
        s("text", { class: "title", x: node.y + 12, y: top + 18 + LINE * i }, text),
      ),
      found ? gauge(node, top, found) : inferenceText(node, top),
      below ? fold(node, below) : [],
      s("title", {}, title),
    );
  }

  // The credence as a number and as a bar, with a tick where it was before.
  function gauge(node, top, { before, now, moved, words }) {
    const [x, y, full] = [node.y + 12, top + HEIGHT - 7, WIDTH - 24];
    const way = moved ? (now > before ? " up" : " down") : "";
    const place = { x: node.y + WIDTH - 9, y: top + 18, "text-anchor": "end" };
    return [
      s("text", { class: `value${way}`, ...place }, words),
      s("rect", { class: "track", x, y, width: full, height: 3, rx: 1.5 }),
      s("rect", { class: "bar", x, y, width: full * now, height: 3, rx: 1.5 }),
      moved ? s("rect", { class: "tick", x: x + full * before - 1, y: y - 3, width: 2, height: 9 }) : [],
    ];
  }

  function inferenceText(node, top) {
    const { kind, inference } = node.data;
    if (kind !== "argument" || typeof inference !== "number") return [];
    const place = { x: node.y + WIDTH - 9, y: top + HEIGHT - 8, "text-anchor": "end" };
    return s("text", { class: "value", ...place }, `inference ${inference}`);
  }

  // The button that opens a node, with the number of nodes below it, or closes it.
  function fold(node, below) {
    const { id } = node.data;
    const x = node.y + WIDTH + 12;
    const onclick = (event) => {
      event.stopPropagation();
      toggle(id);
    };
    return s(
      "g",
      { class: "fold", onclick },
      s("circle", { cx: x, cy: node.x, r: 11 }),
      s("text", { x, y: node.x + 4, "text-anchor": "middle" }, open.has(id) ? "\u2212" : `+${below}`),
    );
  }

  function pressed(node) {
    active = node.data.id;
    if (isClaim(node.data)) goTo(`claim-${claims[node.data.title].slug}`);
    else toggle(node.data.id);
  }

  function toggle(id) {
    open.has(id) ? open.delete(id) : open.add(id);
    draw();
    focus(id);
  }

  function focus(id) {
    active = id;
    for (const item of boxes.children) {
      const own = item.dataset.id === id;
      item.setAttribute("tabindex", own ? 0 : -1);
      if (own) item.focus({ preventScroll: true });
    }
  }

  function key(event, node) {
    const visible = [...order].sort((a, b) => a.x - b.x || a.y - b.y);
    const column = visible.filter((each) => each.depth === node.depth);
    const step = (list, by) => list[list.indexOf(node) + by]?.data.id;
    const inside = (children.get(node.data.id) ?? [])[0]?.id;
    const moves = {
      ArrowRight: () => (inside && !open.has(node.data.id) ? toggle(node.data.id) : inside),
      ArrowLeft: () => (open.has(node.data.id) && inside ? toggle(node.data.id) : node.data.parent),
      ArrowUp: () => step(column, -1),
      ArrowDown: () => step(column, 1),
      Home: () => visible[0].data.id,
      Enter: () => pressed(node),
      " ": () => pressed(node),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    const next = moves[event.key]();
    if (next) {
      focus(next);
      centre(next);
    }
  }

  const button = (text, title, onclick) =>
    h("button", { type: "button", class: "quiet", title, onclick }, text);
  const after = (change) => () => {
    change();
    draw();
    fit(true);
  };
  place.append(
    h(
      "div",
      { class: "controls" },
      button("What moved", "Show the claims that the study tested", after(openMoved)),
      button(
        "Sections",
        "Fold everything below the sections",
        after(() => openTo(1)),
      ),
      button(
        "Everything",
        "Unfold the whole map",
        after(() => openTo(99)),
      ),
      button("Fit", "Show all that is unfolded", () => fit(true)),
      button("+", "Zoom in", () => select(svg).call(pan.scaleBy, 1.3)),
      button("\u2212", "Zoom out", () => select(svg).call(pan.scaleBy, 1 / 1.3)),
      h(
        "span",
        { class: "note" },
        "Drag to move, Ctrl and the wheel to zoom, arrow keys to walk, Enter to open.",
      ),
    ),
    frame,
    h(
      "p",
      { class: "legend" },
      [
        ["support", "supports"],
        ["attack", "attacks"],
        ["premise", "premise"],
      ].map(([sign, text]) =>
        h(
          "span",
          { class: "key" },
          h("span", { class: "swatch", style: `background:${COLOURS[sign]}` }),
          text,
        ),
      ),
      h("span", { class: "key" }, "bar: credence now; tick: before"),
    ),
  );
  openMoved();
  draw();
  fit(false);
  follow(["relevance"], draw);
  addEventListener("reveal-claim", (event) => {
    const node = nodes.find((each) => isClaim(each) && each.title === event.detail);
    if (!node) return;
    reveal(node);
    active = node.id;
    draw();
    centre(node.id);
  });
  let drawn = svg.clientWidth;
  new ResizeObserver(() => {
    if (svg.clientWidth === drawn) return;
    drawn = svg.clientWidth;
    fit(false);
  }).observe(svg);
}
