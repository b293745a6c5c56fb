// All trials, made when they are first opened.

import { byId, h } from "./dom.js";
import { plain, significant } from "./format.js";
import { data } from "./page.js";
import { grid } from "./grid.js";
import { route } from "./route.js";

export function startTrials() {
  const place = byId("trials");
  const columns = data.trials;
  if (!place || !columns.id) return;
  const rows = columns.id.map((id, i) =>
    Object.fromEntries(Object.keys(columns).map((key) => [key, columns[key][i]])),
  );
  const parts = ["validation", "test", "ood", "base"].filter((part) => columns[part]);
  let table = null;
  let ready = null;
  const search = h("input", {
    type: "search",
    placeholder: "contestant, task, id",
    "aria-label": "Filter the trials",
    oninput: () => filter(search.value),
  });
  const holder = h("div");

  function filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    table?.setFilter((item) =>
      words.every((word) =>
        [item.row.contestant, item.row.task, item.row.id, item.row.status, item.row.board].some((cell) =>
          String(cell).toLowerCase().startsWith(word),
        ),
      ),
    );
  }

  function make() {
    if (ready) return ready;
    place
      .querySelector(".trials-place")
      .append(
        h("div", { class: "controls" }, h("label", { class: "choice" }, h("span", {}, "find"), search)),
        holder,
      );
    table = grid(
      holder,
      [
        {
          title: "trial",
          width: 150,
          value: (row) => row.id,
          show: (row) => h("code", { id: `t-${row.id}` }, row.id),
        },
        ...(data.boards.length > 1 ? [{ title: "board", value: (row) => row.board }] : []),
        { title: "contestant", width: 110, value: (row) => row.contestant },
        { title: "task", width: 90, value: (row) => row.task },
        { title: "rate", number: true, value: (row) => row.rate, show: (row) => significant(row.rate) },
        { title: "seed", number: true, value: (row) => row.seed },
        { title: "steps", number: true, value: (row) => row.steps },
        ...parts.map((part) => ({
          title: part,
          number: true,
          width: 96,
          value: (row) => row[part],
          show: (row) => plain(row[part]),
        })),
        { title: "seconds", number: true, value: (row) => row.seconds, show: (row) => plain(row.seconds, 1) },
        { title: "status", value: (row) => row.status },
      ],
      rows,
      { label: "Trials", height: rows.length > 15 ? "460px" : undefined },
    );
    ready = new Promise((resolve) => table.on("tableBuilt", resolve));
    return ready;
  }

  place.addEventListener("toggle", () => place.open && make());
  addEventListener("trials-of", (event) => {
    place.open = true;
    make().then(() => {
      search.value = event.detail;
      filter(event.detail);
    });
  });
  route("t-", (id) => {
    const number = columns.id.indexOf(id);
    if (number < 0) return false;
    place.open = true;
    make().then(() => {
      search.value = "";
      table.clearFilter();
      table
        .scrollToRow(number, "center", true)
        .catch(() => {})
        .then(() => {
          for (const row of holder.querySelectorAll(".found")) row.classList.remove("found");
          table.getRow(number).getElement().classList.add("found");
          holder.scrollIntoView({ block: "center" });
        });
    });
    return true;
  });
}
