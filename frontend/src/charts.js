// Charts by Observable Plot: trade-offs with their Pareto front, differences, curves over training, learning rates.

import {
  areaY,
  dot as dots,
  line,
  plot,
  pointer,
  pointerY,
  ruleX,
  ruleY,
  text,
  tip,
} from "@observablehq/plot";
import { dataTable } from "./copy.js";
import { byId, h, s, select } from "./dom.js";
import { effectText, finite, plain, short, significant } from "./format.js";
import { chosen, colour, contestants, data, follow, many, resultsOf, themeColour, themes } from "./page.js";
import { rowOf } from "./board.js";
import { separate } from "./labels.js";

const AXES = {
  forgetting: {
    title: "forgotten",
    value: (row) => row.forgetting?.[0],
    interval: (row) => row.forgetting,
    lower: true,
    log: false,
  },
  parameters: {
    title: "trained parameters",
    value: (row, whole) => whole.parameters,
    lower: true,
    log: true,
  },
  time: {
    title: "training time, seconds",
    value: (row, whole, board) => (whole.step_ms * board.steps) / 1000,
    lower: true,
    log: true,
  },
  tuned: {
    title: "steps of its search and one run",
    value: (row, whole, board) => whole.tuning_steps + board.steps,
    lower: true,
    log: true,
  },
  memory: { title: "memory of a step, MiB", value: (row, whole) => whole.memory_mib, lower: true, log: true },
  tenth: {
    title: "learned from a tenth of the data",
    value: (row) => row.tenth?.[0],
    interval: (row) => row.tenth,
    lower: false,
    log: false,
  },
  ood: {
    title: "learned out-of-domain",
    value: (row) => row.gain_ood?.[0],
    interval: (row) => row.gain_ood,
    lower: false,
    log: false,
  },
};

// A picture with a name of its own; the labels that Plot gives to its groups are not for assistive technology.
function drawn(options) {
  const figure = plot(options);
  const svg = figure.tagName === "svg" ? figure : figure.querySelector("svg");
  for (const group of svg.querySelectorAll("[aria-label], [aria-hidden]")) {
    if (group.hasAttribute("aria-label")) group.dataset.mark = group.getAttribute("aria-label");
    for (const name of ["aria-label", "aria-description", "aria-hidden"]) group.removeAttribute(name);
  }
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", options.ariaLabel);
  return figure;
}

const narrow = () => Math.min(byId("page").clientWidth - 4, 1060);
const themeShown = (name) => !chosen("theme") || contestants.get(name)?.theme === chosen("theme");
const bounded = (x, low, high) => Math.min(Math.max(x, low), high);

// Ends beyond which long intervals are cut off, so that points stay apart.
function limits(effects) {
  const known = effects.filter((each) => each && finite(each[0]));
  const halves = known
    .filter((each) => finite(each[1]))
    .map((each) => (each[2] - each[1]) / 2)
    .sort((a, b) => a - b);
  if (!halves.length) return [-Infinity, Infinity];
  const means = known.map((each) => each[0]);
  const reach = Math.max(Math.max(...means) - Math.min(...means), 2 * halves[halves.length >> 1]);
  return [Math.min(...means) - reach, Math.max(...means) + reach];
}

export function paretoFront(points, lower) {
  const ordered = [...points].sort((a, b) => (lower ? a.x - b.x : b.x - a.x) || b.y - a.y);
  const front = [];
  let best = -Infinity;
  for (const point of ordered) {
    if (point.y > best) {
      front.push(point);
      best = point.y;
    }
  }
  return front;
}

function legend() {
  if (!many) return null;
  return h(
    "p",
    { class: "legend" },
    themes.map((theme) =>
      h(
        "span",
        { class: "key" },
        h("span", { class: "dot", style: `background:${themeColour(theme)}` }),
        theme,
      ),
    ),
  );
}

function tradeoff(place, axis) {
  const board = chosen("board");
  const kind = AXES[axis];
  const results = resultsOf(board, chosen("task"));
  const points = [...results.values()]
    .map((row) => {
      const whole = rowOf(board, row.name);
      return {
        name: row.name,
        x: kind.value(row, whole, board),
        y: row.gain?.[0],
        gain: row.gain,
        across: kind.interval?.(row) ?? null,
        ranked: whole.ranked,
      };
    })
    .filter(
      (point) => finite(point.x) && finite(point.y) && (!kind.log || point.x > 0) && themeShown(point.name),
    );
  place.replaceChildren();
  if (!points.length) {
    place.append(h("p", { class: "note" }, "This study did not measure it."));
    return;
  }
  const front = paretoFront(
    points.filter((point) => point.ranked),
    kind.lower,
  );
  const inFront = new Set(front.map((point) => point.name));
  const [low, high] = limits(points.map((point) => point.gain));
  const [left, right] = limits(points.map((point) => point.across));
  const path = board.paths.flatMap((entry) =>
    axis === "forgetting" && !many && !chosen("task")
      ? entry.points.map(([strength, gain, forgot]) => ({ name: entry.name, strength, y: gain, x: forgot }))
      : [],
  );
  const width = narrow();
  const figure = drawn({
    width,
    height: Math.max(340, Math.min(520, width * 0.62)),
    marginLeft: 56,
    marginBottom: 52,
    x: {
      label: `${kind.title} ${kind.lower ? "(less is better)" : "(more is better)"}`,
      type: kind.log ? "log" : "linear",
      grid: true,
      ...(kind.log ? { tickFormat: (x) => (/^1/.test(x.toExponential()) ? short(x) : "") } : {}),
      inset: 26,
    },
    y: { label: `learned in-domain, ${board.unit} (more is better)`, grid: true, nice: true, inset: 12 },
    ariaLabel: `Learned against ${kind.title}`,
    marks: [
      front.length > 1
        ? line(front, {
            x: "x",
            y: "y",
            curve: kind.lower ? "step-after" : "step-before",
            stroke: "currentColor",
            strokeOpacity: 0.45,
            strokeDasharray: "6 3",
          })
        : null,
      line(path, {
        x: "x",
        y: "y",
        z: "name",
        stroke: (d) => colour(d.name),
        strokeOpacity: 0.5,
        strokeWidth: 1.2,
        curve: "catmull-rom",
      }),
      ruleX(
        points.filter((p) => finite(p.gain[1])),
        {
          x: "x",
          y1: (p) => Math.max(p.gain[1], low),
          y2: (p) => Math.min(p.gain[2], high),
          stroke: (p) => colour(p.name),
          strokeOpacity: 0.4,
          strokeWidth: 1.5,
        },
      ),
      ruleY(
        points.filter((p) => p.across && finite(p.across[1])),
        {
          y: "y",
          x1: (p) => Math.max(p.across[1], left),
          x2: (p) => Math.min(p.across[2], right),
          stroke: (p) => colour(p.name),
          strokeOpacity: 0.4,
          strokeWidth: 1.5,
        },
      ),
      dots(points, {
        x: "x",
        y: "y",
        r: (p) => (inFront.has(p.name) ? 6 : 4.5),
        fill: (p) => colour(p.name),
        stroke: (p) => (inFront.has(p.name) ? "currentColor" : "none"),
        strokeWidth: 1.2,
        symbol: (p) => (p.ranked ? "circle" : "diamond"),
      }),
      text(points, {
        x: "x",
        y: "y",
        text: "name",
        fontSize: 12,
        fontWeight: 600,
        fill: (p) => `color-mix(in srgb, ${colour(p.name)} 65%, var(--ink))`,
      }),
      tip(
        points,
        pointer({
          x: "x",
          y: "y",
          title: (p) =>
            `${p.name}\nlearned ${effectText(p.gain)}\n${kind.title} ${p.across ? effectText(p.across) : short(p.x)}`,
        }),
      ),
    ],
  });
  place.append(legend() ?? "", h("div", { class: "figure" }, figure));
  const order = [...points]
    .sort(
      (a, b) =>
        inFront.has(b.name) - inFront.has(a.name) ||
        (b.name === board.reference) - (a.name === board.reference) ||
        b.y - a.y,
    )
    .map((p) => p.name);
  requestAnimationFrame(() => separate(figure, order));
  const best = front.map((point) => point.name);
  place.append(
    h(
      "p",
      { class: "note" },
      `On the front, from the cheapest: ${best.join(", ")}. No other contestant is at least as good in both. Intervals are of 95 %; where they overlap, the order is open.`,
    ),
  );
  place.append(
    dataTable(
      ["contestant", "on the front", "learned", "low", "high", kind.title, "low", "high"],
      points.map((p) => [
        p.name,
        inFront.has(p.name) ? "yes" : "",
        ...p.gain.slice(0, 3),
        p.x,
        p.across?.[1] ?? "",
        p.across?.[2] ?? "",
      ]),
      "the trade-off",
    ),
  );
}

export function startTradeoff() {
  const place = byId("tradeoff");
  if (!place) return;
  const measured = Object.entries(AXES).filter(([, kind]) =>
    data.boards.some((board) => board.rows.some((row) => finite(kind.value(row, row, board)))),
  );
  if (!measured.length) return;
  let axis = measured[0][0];
  const chart = h("div");
  const draw = () => tradeoff(chart, axis);
  place.append(
    h(
      "div",
      { class: "controls" },
      select(
        "against",
        measured.map(([key, kind]) => [key, kind.title]),
        axis,
        (key) => {
          axis = key;
          draw();
        },
      ),
    ),
    chart,
  );
  follow(["board", "task", "theme"], draw);
  onWidth(draw);
  draw();
}

// Redraws when the width of the page has changed.
const widths = [];
export function onWidth(draw) {
  widths.push(draw);
}
let last = 0;
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (last === narrow()) return;
    last = narrow();
    for (const draw of widths) draw();
  }, 150);
});

// Differences with their intervals, a row for each: [{ label, effect, colour, href }].
export function forest(rows, { label, width, zero = 0 }) {
  const shown = rows.filter((row) => row.effect && finite(row.effect[0]));
  const [low, high] = limits(shown.map((row) => row.effect));
  const longest = Math.min(0.42 * width, Math.max(...shown.map((row) => row.label.length), 4) * 7 + 14);
  return drawn({
    width,
    height: 26 * shown.length + 48,
    marginLeft: longest,
    marginRight: 14,
    marginBottom: 40,
    x: { label, grid: true, labelAnchor: "center" },
    y: {
      domain: shown.map((row) => row.label),
      label: null,
      tickSize: 0,
      tickFormat: (text) =>
        text.length * 7 > longest - 10 ? `${text.slice(0, Math.floor((longest - 20) / 7))}\u2026` : text,
    },
    ariaLabel: label,
    marks: [
      ruleX([zero], { stroke: "currentColor", strokeOpacity: 0.6, strokeDasharray: "4 3" }),
      ruleY(
        shown.filter((row) => finite(row.effect[1])),
        {
          y: "label",
          x1: (row) => bounded(row.effect[1], low, high),
          x2: (row) => bounded(row.effect[2], low, high),
          stroke: "colour",
          strokeWidth: 2.5,
          strokeOpacity: 0.65,
        },
      ),
      dots(shown, { y: "label", x: (row) => row.effect[0], fill: "colour", r: 5 }),
      tip(
        shown,
        pointerY({
          y: "label",
          x: (row) => row.effect[0],
          title: (row) => `${row.label}: ${effectText(row.effect)}`,
        }),
      ),
    ],
  });
}

export function startForest() {
  const place = byId("forest");
  if (!place) return;
  const draw = () => {
    const board = chosen("board");
    const rows = [...resultsOf(board, chosen("task")).values()]
      .filter((row) => row.versus && finite(row.versus[0]) && themeShown(row.name))
      .map((row) => ({ label: row.name, effect: row.versus, colour: colour(row.name) }))
      .sort((a, b) => b.effect[0] - a.effect[0]);
    place.replaceChildren();
    if (!rows.length) return;
    const title = `better than ${board.reference} in-domain, ${board.unit} (paired, 95 % interval)`;
    place.append(h("div", { class: "figure" }, forest(rows, { label: title, width: narrow() })));
    place.append(
      dataTable(
        ["contestant", "difference", "low", "high", "p, uncorrected", "pairs"],
        rows.map((row) => [row.label, ...row.effect.map((x) => x ?? "")]),
        "the differences",
      ),
    );
  };
  follow(["board", "task", "theme"], draw);
  onWidth(draw);
  draw();
}

// Contestants whose lines are drawn: all of few, else those picked, the reference always.
function picker(place, redraw) {
  const lined = () =>
    chosen("board")
      .rows.map((row) => row.name)
      .filter((name) => picked.has(name) && themeShown(name));
  const picked = new Set();
  const box = h("fieldset", { class: "picks" }, h("legend", {}, "lines"));
  function fill() {
    const board = chosen("board");
    const names = board.rows.map((row) => row.name);
    if (![...picked].some((name) => names.includes(name))) {
      picked.clear();
      for (const name of [board.reference, ...names.slice(0, many ? 5 : names.length)]) picked.add(name);
    }
    box.replaceChildren(
      h("legend", {}, "lines"),
      ...names.filter(themeShown).map((name) =>
        h(
          "label",
          { class: "pick" },
          h("input", {
            type: "checkbox",
            checked: picked.has(name),
            onchange: (event) => {
              event.target.checked ? picked.add(name) : picked.delete(name);
              redraw();
            },
          }),
          h("span", { class: "dot", style: `background:${colour(name)}` }),
          name,
        ),
      ),
    );
  }
  place.append(many ? h("details", {}, h("summary", {}, "Choose the lines"), box) : box);
  fill();
  return { picked, fill, lined };
}

const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 2"];

// Within a theme, lines of one colour differ by their dashes.
function dashes(names) {
  const seen = new Map();
  return new Map(
    names.map((name) => {
      const own = colour(name);
      const number = seen.get(own) ?? 0;
      seen.set(own, number + 1);
      return [name, DASHES[number % DASHES.length]];
    }),
  );
}

// The lines that are drawn, each with its colour and dashes.
function lineKey(names) {
  const dash = dashes(names);
  const sample = (name) =>
    s(
      "svg",
      { width: 26, height: 8, "aria-hidden": "true" },
      s("line", {
        x1: 1,
        x2: 25,
        y1: 4,
        y2: 4,
        stroke: colour(name),
        "stroke-width": 2.2,
        "stroke-dasharray": dash.get(name) || null,
      }),
    );
  return h(
    "p",
    { class: "legend" },
    names.map((name) => h("span", { class: "key" }, sample(name), name)),
  );
}

function panels(place, prepare) {
  const board = chosen("board");
  const tasks = chosen("task") ? [chosen("task")] : board.tasks;
  const across = narrow() > 800 && tasks.length > 1 ? 2 : 1;
  const width = Math.floor(narrow() / across) - (across > 1 ? 10 : 0);
  place.replaceChildren();
  const found = h("div", { class: "panels" });
  const rows = [];
  for (const task of tasks) {
    const { figure, data: points } = prepare(board, task, width);
    if (!figure) continue;
    found.append(h("figure", {}, h("figcaption", {}, task), figure));
    rows.push(...points.map((point) => [task, ...point]));
  }
  place.append(found);
  return rows;
}

export function startCurves() {
  const place = byId("curves");
  if (!place || !data.boards.some((board) => board.curves.length)) return;
  const chart = h("div");
  const lines = picker(place, () => draw());
  place.append(chart);
  function draw() {
    lines.fill();
    const rows = panels(chart, (board, task, width) => {
      const curves = board.curves.filter(
        (curve) => curve.task === task && lines.picked.has(curve.name) && themeShown(curve.name),
      );
      const dash = dashes(lines.lined());
      const points = curves.flatMap((curve) =>
        curve.points.map(([step, mean, low, high]) => ({ name: curve.name, step, mean, low, high })),
      );
      if (!points.length) return { figure: null, data: [] };
      const figure = drawn({
        width,
        height: 300,
        marginLeft: 56,
        x: { label: "training steps", grid: true },
        y: { label: `validation loss, ${board.unit}`, grid: true, zero: false, nice: true },
        ariaLabel: `Validation loss during training on ${task}`,
        marks: [
          areaY(points, {
            x: "step",
            y1: "low",
            y2: "high",
            z: "name",
            fill: (p) => colour(p.name),
            fillOpacity: 0.13,
          }),
          ...curves.map((curve) =>
            line(
              points.filter((p) => p.name === curve.name),
              {
                x: "step",
                y: "mean",
                stroke: colour(curve.name),
                strokeWidth: 2,
                strokeDasharray: dash.get(curve.name) || null,
              },
            ),
          ),
          tip(
            points,
            pointer({
              x: "step",
              y: "mean",
              title: (p) =>
                `${p.name}, step ${p.step}\n${plain(p.mean)} (${plain(p.low)} to ${plain(p.high)})`,
            }),
          ),
        ],
      });
      return { figure, data: points.map((p) => [p.name, p.step, p.mean, p.low, p.high]) };
    });
    if (many) chart.prepend(lineKey(lines.lined()));
    chart.append(
      dataTable(["task", "contestant", "step", "mean loss", "lowest", "highest"], rows, "the curves"),
    );
  }
  follow(["board", "task", "theme"], draw);
  onWidth(draw);
  draw();
}

export function startRates() {
  const place = byId("rate-curves");
  if (!place) return;
  const chart = h("div");
  const lines = picker(place, () => draw());
  place.append(chart);
  function draw() {
    lines.fill();
    const rows = panels(chart, (board, task, width) => {
      const curves = board.rates.filter(
        (curve) => curve.task === task && lines.picked.has(curve.name) && themeShown(curve.name),
      );
      const points = curves.flatMap((curve) =>
        curve.points
          .filter((point) => finite(point[1]))
          .map(([rate, loss]) => ({
            name: curve.name,
            rate,
            loss,
            chosen: rate === curve.chosen,
            flag: curve.flag,
          })),
      );
      if (!points.length) return { figure: null, data: [] };
      const frozen = board.frozen[task];
      const best = Math.min(...points.map((p) => p.loss));
      const room = Math.max(frozen - best, 1e-3);
      const top = frozen + 0.5 * room;
      const dash = dashes(lines.lined());
      const figure = drawn({
        width,
        height: 300,
        marginLeft: 56,
        clip: true,
        x: {
          label: "learning rate",
          type: "log",
          grid: true,
          tickFormat: (x) => (/^1e/.test(x.toExponential()) ? x.toExponential().replace("e", "e") : ""),
        },
        y: { label: `validation loss, ${board.unit}`, grid: true, domain: [best - 0.1 * room, top] },
        ariaLabel: `Validation loss by learning rate on ${task}`,
        marks: [
          ruleY([frozen], { stroke: "currentColor", strokeOpacity: 0.6, strokeDasharray: "4 3" }),
          ...curves.map((curve) =>
            line(
              points.filter((p) => p.name === curve.name),
              {
                x: "rate",
                y: "loss",
                stroke: colour(curve.name),
                strokeWidth: 1.8,
                strokeDasharray: dash.get(curve.name) || null,
                clip: true,
              },
            ),
          ),
          dots(points, { x: "rate", y: "loss", fill: (p) => colour(p.name), r: 3.2, clip: true }),
          dots(
            points.filter((p) => p.chosen),
            { x: "rate", y: "loss", stroke: (p) => colour(p.name), r: 8, strokeWidth: 2, clip: true },
          ),
          tip(
            points,
            pointer({
              x: "rate",
              y: "loss",
              title: (p) =>
                `${p.name}, rate ${significant(p.rate)}${p.chosen ? " (selected)" : ""}\n${plain(p.loss)}${p.flag ? `\n${p.flag}` : ""}`,
            }),
          ),
        ],
      });
      return { figure, data: points.map((p) => [p.name, p.rate, p.loss, p.chosen ? "yes" : ""]) };
    });
    if (many) chart.prepend(lineKey(lines.lined()));
    chart.append(
      dataTable(
        ["task", "contestant", "learning rate", "validation loss", "selected"],
        rows,
        "the learning rates",
      ),
    );
  }
  follow(["board", "task", "theme"], draw);
  onWidth(draw);
  draw();
}
