// Sortable, filterable tables by Tabulator, with cells that are elements and never markup.

import {
  FilterModule,
  FormatModule,
  FrozenColumnsModule,
  InteractionModule,
  ResizeColumnsModule,
  SortModule,
  Tabulator,
} from "tabulator-tables";
import { copyButtons } from "./copy.js";
import { h } from "./dom.js";
import { finite } from "./format.js";

Tabulator.registerModule([
  FilterModule,
  FormatModule,
  FrozenColumnsModule,
  InteractionModule,
  ResizeColumnsModule,
  SortModule,
]);

const empty = (x) => x === null || x === undefined || (typeof x === "number" && !finite(x));

// Cells without a value stay last, whichever way a column is sorted.
function compare(a, b, first, second, column, direction) {
  if (empty(a) || empty(b))
    return (empty(a) ? 1 : 0) - (empty(b) ? 1 : 0) ? (empty(a) ? 1 : -1) * (direction === "asc" ? 1 : -1) : 0;
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b));
}

// columns: { title, value(row), show(row), number, width, copy(row) }
export function grid(place, columns, rows, { label, height, order, maxHeight }) {
  const box = h("div", { class: "grid" });
  place.append(box);
  const table = new Tabulator(box, {
    data: rows.map((row, number) => ({
      row,
      number,
      ...Object.fromEntries(columns.map((column, i) => [`c${i}`, column.value(row)])),
    })),
    index: "number",
    layout: "fitDataStretch",
    height: height ?? false,
    maxHeight: maxHeight ?? false,
    renderVertical: height || maxHeight ? "virtual" : "basic",
    columnDefaults: { sorter: compare, headerSortTristate: false, resizable: "header", vertAlign: "top" },
    initialSort: order ? [order] : [],
    columns: columns.map((column, number) => ({
      title: column.title,
      field: `c${number}`,
      hozAlign: column.number ? "right" : "left",
      headerWordWrap: true,
      headerHozAlign: column.number ? "right" : "left",
      headerSortStartingDir: column.number ? "desc" : "asc",
      width: column.width ?? 84,
      minWidth: 50,
      frozen: column.frozen && window.innerWidth > 700,
      cssClass: column.wrap ? "wrap" : "",
      formatter: (cell) => {
        const { row } = cell.getData();
        return column.show ? column.show(row) : String(column.value(row) ?? "");
      },
    })),
  });
  table.on("tableBuilt", () => {
    const sorters = box.querySelectorAll(".tabulator-col-sorter");
    for (const sorter of sorters) sorter.setAttribute("aria-hidden", "true");
    // Tabulator gives this role to both of two nested elements of its header, and to none of its rows' holder.
    box.querySelector(".tabulator-header-contents")?.setAttribute("role", "presentation");
    box.querySelector(".tabulator-table")?.setAttribute("role", "presentation");
    box.querySelector(".tabulator-tableholder")?.setAttribute("role", "rowgroup");
    for (const column of box.querySelectorAll(".tabulator-col.tabulator-sortable")) {
      column.setAttribute("tabindex", "0");
      column.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          column.click();
        }
      });
    }
  });
  box.setAttribute("aria-label", label);
  const content = () => ({
    head: columns.map((column) => column.title),
    rows: table
      .getRows("active")
      .map((found) => columns.map((column) => (column.copy ?? column.value)(found.getData().row) ?? "")),
  });
  place.append(copyButtons(content, label));
  return table;
}
