// Tables as text: Markdown and CSV, to the clipboard.

import { h } from "./dom.js";

const cellMarkdown = (text) =>
  String(text ?? "")
    .replace(/\s+/g, " ")
    .replace(/([|\\`*_<>[\]])/g, "\\$1")
    .trim();

export function markdown(head, rows) {
  const line = (cells) => `| ${cells.map(cellMarkdown).join(" | ")} |`;
  return [line(head), `|${head.map(() => " --- ").join("|")}|`, ...rows.map(line)].join("\n") + "\n";
}

function cellCsv(value) {
  if (typeof value === "number") return String(value);
  let text = String(value ?? "")
    .replace(/\s+/g, " ")
    .trim();
  // A spreadsheet must not take a name for a formula.
  if (/^[=+@\t\r-]/.test(text) && Number.isNaN(Number(text.replace("\u2212", "-")))) text = `'${text}`;
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(head, rows) {
  return [head, ...rows].map((row) => row.map(cellCsv).join(",")).join("\n") + "\n";
}

export async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "offscreen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// Buttons that copy what `table()` returns: a heading and rows of cells.
export function copyButtons(table, what) {
  const said = h("span", { class: "said", role: "status" });
  const button = (text, write) =>
    h(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-label": `Copy ${what} as ${text}`,
        onclick: async () => {
          const { head, rows } = table();
          await toClipboard(write(head, rows));
          said.textContent = "copied";
          setTimeout(() => (said.textContent = ""), 2000);
        },
      },
      text,
    );
  return h(
    "div",
    { class: "copy" },
    h("span", { "aria-hidden": "true" }, "Copy as"),
    button("Markdown", markdown),
    button("CSV", csv),
    said,
  );
}

export function cellsOf(table) {
  const text = (cell) => cell.innerText.replace(/\s+/g, " ").trim();
  const rows = [...table.rows].map((row) => [...row.cells].map(text));
  const heads = table.tHead ? table.tHead.rows.length : 0;
  return { head: heads ? rows[heads - 1] : rows[0], rows: rows.slice(Math.max(heads, 1)) };
}

// Every table that is in the page as it was written.
export function addCopyButtons(root) {
  for (const table of root.querySelectorAll("table")) {
    if (table.closest(".grid")) continue;
    if (table.parentElement.getAttribute("role") === "region") {
      table.parentElement.after(copyButtons(() => cellsOf(table), "this table"));
      continue;
    }
    const scroll = h("div", {
      class: "scroll",
      tabindex: "0",
      role: "region",
      "aria-label": table.caption?.innerText ?? nearest(table),
    });
    table.before(scroll);
    scroll.append(table);
    scroll.after(copyButtons(() => cellsOf(table), "this table"));
  }
}

function nearest(table) {
  let node = table;
  while ((node = node.previousElementSibling ?? node.parentElement)) {
    if (/^H[1-6]$/.test(node.tagName)) return node.innerText;
    const heading = node.querySelector?.("h2, h3, summary");
    if (heading) return heading.innerText;
    if (node.id === "page") break;
  }
  return "Table";
}

// The data behind a chart, folded; the table is made when it is first opened.
export function dataTable(head, rows, what) {
  const inside = h("div", {
    class: "scroll",
    tabindex: "0",
    role: "region",
    "aria-label": `Data of ${what}`,
  });
  const fill = (event) => {
    if (!event.target.open || inside.firstChild) return;
    const cell = (value) => h("td", { class: typeof value === "number" ? "n" : null }, String(value ?? ""));
    inside.append(
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head.map((text) => h("th", { scope: "col" }, text)),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((row) => h("tr", {}, row.map(cell))),
        ),
      ),
    );
  };
  return h(
    "details",
    { class: "data", ontoggle: fill },
    h("summary", {}, "Data of this chart"),
    inside,
    copyButtons(() => ({ head, rows }), `the data of ${what}`),
  );
}
