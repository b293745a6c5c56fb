// The scoreboard, and the choice among the boards of a study.

import { chosen, choose, contestants, data, follow, resultsOf, themes } from "./page.js";
import { byId, dot, h, select } from "./dom.js";
import { effectText, plain, pvalue, short, signed, significant, finite } from "./format.js";
import { grid } from "./grid.js";
import { colour } from "./page.js";

export const nameCell = (name) =>
  h("a", { class: "name", href: `#method-${encodeURIComponent(name)}` }, dot(colour(name)), name);

function withInterval(effect) {
  if (!effect || !finite(effect[0])) return "-";
  const limits = finite(effect[1]) ? `${signed(effect[1])} to ${signed(effect[2])}` : "no interval";
  return h("span", {}, signed(effect[0]), h("br"), h("small", {}, limits));
}

function columns(board, task) {
  const reference = board.reference;
  const whole = !task;
  const found = [
    {
      title: "contestant",
      frozen: true,
      wrap: true,
      width: 158,
      value: (row) => row.name,
      show: (row) => h("span", {}, nameCell(row.name), flags(rowOf(board, row.name))),
    },
    { title: "theme", width: 96, value: (row) => contestants.get(row.name)?.theme ?? "" },
    {
      title: "trained parameters",
      number: true,
      width: 104,
      value: (row) => rowOf(board, row.name).parameters,
      show: (row) => short(rowOf(board, row.name).parameters),
    },
    effectColumn("learned in-domain", (row) => row.gain),
    effectColumn(
      `against ${reference}`,
      (row) => row.versus,
      (row) => (row.name === reference ? "reference" : null),
    ),
  ];
  if (whole)
    found.push({
      title: `p (${board.correction})`,
      number: true,
      value: (row) => row.p,
      show: (row) => pvalue(row.p),
    });
  found.push(
    effectColumn("learned out-of-domain", (row) => row.gain_ood),
    effectColumn("forgotten", (row) => row.forgetting),
  );
  if (whole && board.rows.some((row) => row.kept)) {
    found.push(
      effectColumn(
        `less forgotten than ${reference}, at equal learning`,
        (row) => row.kept,
        (row) => (row.name === reference ? "reference" : null),
      ),
      { title: "its p", number: true, value: (row) => row.kept_p, show: (row) => pvalue(row.kept_p) },
    );
  }
  found.push(
    {
      title: "learning rate",
      width: 140,
      value: (row) => rate(board, row, task),
      show: (row) => rates(board, row, task),
      copy: (row) => rateText(board, row, task),
    },
    {
      title: "ms a step",
      number: true,
      value: (row) => rowOf(board, row.name).step_ms,
      show: (row) => plain(rowOf(board, row.name).step_ms, 0),
    },
  );
  if (board.rows.some((row) => finite(row.memory_mib))) {
    found.push({
      title: "memory, MiB",
      number: true,
      value: (row) => rowOf(board, row.name).memory_mib,
      show: (row) => plain(rowOf(board, row.name).memory_mib, 0),
    });
  }
  found.push({ title: "tuning steps", number: true, value: (row) => rowOf(board, row.name).tuning_steps });
  return found;
}

export const rowOf = (board, name) => board.rows.find((row) => row.name === name);

function effectColumn(title, read, instead = () => null) {
  return {
    title,
    number: true,
    width: 122,
    value: (row) => read(row)?.[0] ?? null,
    show: (row) => instead(row) ?? withInterval(read(row)),
    copy: (row) => instead(row) ?? effectText(read(row)),
  };
}

const tasksOf = (board, task) => (task ? [task] : board.tasks);

function rate(board, row, task) {
  const found = tasksOf(board, task).map((each) => rowOf(board, row.name).rates[each]);
  return finite(found[0]) ? found[0] : null;
}

const rateText = (board, row, task) =>
  tasksOf(board, task)
    .map((each) => `${each} ${significant(rowOf(board, row.name).rates[each])}`)
    .join(", ");

function rates(board, row, task) {
  const whole = rowOf(board, row.name);
  return h(
    "span",
    {},
    tasksOf(board, task).map((each) => [
      h(
        "span",
        { class: "line" },
        h("small", {}, `${each} `),
        finite(whole.rates[each]) ? significant(whole.rates[each]) : "none worked",
        whole.rate_flags[each]
          ? h(
              "span",
              { class: "flag", title: whole.rate_flags[each] },
              "!",
              h("span", { class: "offscreen" }, whole.rate_flags[each]),
            )
          : null,
      ),
    ]),
  );
}

function flags(row) {
  return row.flags.map((flag) => [
    " ",
    h("span", { class: "flag", title: flag === "possibly undertuned" ? row.remark : null }, flag),
  ]);
}

export function startBoard() {
  const place = byId("board-grid");
  if (!place) return;
  const controls = h("div", { class: "controls" });
  const holder = h("div");
  place.append(controls, holder);
  let table = null;
  const search = h("input", {
    type: "search",
    placeholder: "method",
    "aria-label": "Filter by method",
    oninput: () => filter(),
  });
  function filter() {
    const words = search.value.trim().toLowerCase();
    const theme = chosen("theme");
    table?.setFilter((item) => {
      const entry = contestants.get(item.row.name);
      return (
        (!theme || entry?.theme === theme) &&
        (!words || `${item.row.name} ${entry?.method ?? ""}`.toLowerCase().includes(words))
      );
    });
  }
  function draw() {
    const board = chosen("board");
    holder.replaceChildren();
    const rows = [...resultsOf(board, chosen("task")).values()];
    table = grid(holder, columns(board, chosen("task")), rows, {
      label: "Scoreboard",
      maxHeight: rows.length > 16 ? "70vh" : undefined,
    });
    table.on("tableBuilt", filter);
  }
  function controlsOf() {
    const board = chosen("board");
    const found = [];
    if (data.boards.length > 1) {
      const names = data.boards.map((each) => [
        each.name,
        [each.cell, each.tasks.join(", ")].filter(Boolean).join("; "),
      ]);
      found.push(
        select("cell", names, board.name, (name) =>
          choose(
            "board",
            data.boards.find((each) => each.name === name),
          ),
        ),
      );
    }
    if (board.tasks.length > 1)
      found.push(
        select(
          "task",
          [["", "all tasks"], ...board.tasks.map((task) => [task, task])],
          chosen("task"),
          (task) => choose("task", task),
        ),
      );
    if (themes.length > 1)
      found.push(
        select(
          "theme",
          [["", "all themes"], ...themes.map((theme) => [theme, theme])],
          chosen("theme"),
          (theme) => choose("theme", theme),
        ),
      );
    if (data.contestants.length > 6)
      found.push(h("label", { class: "choice" }, h("span", {}, "find"), search));
    controls.replaceChildren(...found);
  }
  follow(["board"], () => {
    choose("task", "");
    controlsOf();
    draw();
    for (const part of document.querySelectorAll("[data-board]"))
      part.hidden = part.dataset.board !== chosen("board").name;
  });
  follow(["task"], () => {
    controlsOf();
    draw();
  });
  follow(["theme"], () => {
    controlsOf();
    filter();
  });
  controlsOf();
  draw();
}
