// Methods: an overview by theme, and the panel of each: its bet, how it did, at which rate, and how to use it.

import { byId, dot, h } from "./dom.js";
import { effectText, finite, plain, pvalue, short, significant } from "./format.js";
import { chosen, colour, contestants, data, themes } from "./page.js";
import { forest } from "./charts.js";
import { copyButtons, toClipboard } from "./copy.js";
import { showPanel } from "./panel.js";
import { route } from "./route.js";
import { rowOf } from "./board.js";

function usage(name, row) {
  const entry = contestants.get(name);
  const settings = row?.adapter?.includes("(") ? row.adapter.slice(row.adapter.indexOf("(") + 1, -1) : "";
  const rate = Object.values(row?.rates ?? {}).find(finite);
  const code = [
    "import adapterlab",
    `handle = adapterlab.attach(model, "${entry.method}"${settings ? `, ${settings}` : ""})`,
    rate ? `optimizer = torch.optim.AdamW(handle.parameters(), lr=${significant(rate)})` : null,
  ].filter(Boolean);
  return code.join("\n");
}

function onBoard(board, name, width) {
  const row = rowOf(board, name);
  if (!row) return [];
  const tasks = board.by_task.filter((each) => each.name === name);
  const where = [board.cell, board.tasks.join(", ")].filter(Boolean).join("; ");
  const against = tasks
    .filter((each) => each.versus && finite(each.versus[0]))
    .map((each) => ({ label: each.task, effect: each.versus, colour: colour(name) }));
  if (row.versus && finite(row.versus[0]))
    against.push({ label: "all tasks", effect: row.versus, colour: "var(--ink)" });
  const facts = [
    ["trained parameters", short(row.parameters) + (row.flags.length ? ` (${row.flags.join(", ")})` : "")],
    ["learned in-domain", effectText(row.gain)],
    ["learned out-of-domain", effectText(row.gain_ood)],
    ["forgotten", effectText(row.forgetting)],
    row.kept
      ? [
          `less forgotten than ${board.reference}, at equal learning`,
          `${effectText(row.kept)}${finite(row.kept_p) ? `, p ${pvalue(row.kept_p)}` : ""}`,
        ]
      : null,
    row.versus
      ? [
          `against ${board.reference}`,
          `${effectText(row.versus)}${finite(row.p) ? `, p ${pvalue(row.p)} (${board.correction})` : ""}`,
        ]
      : null,
    [
      "learning rate",
      board.tasks
        .map(
          (task) =>
            `${task} ${finite(row.rates[task]) ? significant(row.rates[task]) : "none worked"}${row.rate_flags[task] ? ` (${row.rate_flags[task]})` : ""}`,
        )
        .join("; "),
    ],
    [
      "a step",
      `${plain(row.step_ms, 0)} ms${finite(row.memory_mib) ? `, ${plain(row.memory_mib, 0)} MiB` : ""}`,
    ],
    row.remark ? ["remark", row.remark] : null,
  ].filter(Boolean);
  return [
    h("h3", {}, data.boards.length > 1 ? `How it did: ${where}` : "How it did"),
    h(
      "dl",
      {},
      facts.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]),
    ),
    copyButtons(() => ({ head: ["", name], rows: facts }), `the results of ${name}`),
    against.length
      ? h(
          "div",
          { class: "figure" },
          forest(against, { label: `better than ${board.reference}, ${board.unit}`, width }),
        )
      : null,
  ];
}

function showMethod(address) {
  const entry = contestants.get(address);
  if (!entry) return false;
  const method = data.methods[entry.method];
  const width = Math.min(480, document.documentElement.clientWidth) - 48;
  const boards = data.boards.filter((board) => rowOf(board, address));
  const own = boards.includes(chosen("board")) ? chosen("board") : boards[0];
  const code = own ? usage(address, rowOf(own, address)) : "";
  const named = Object.entries(data.map?.claims ?? {}).filter(([, claim]) =>
    (claim.test?.parts ?? []).some((part) => ` ${part.says} `.includes(` ${address} `)),
  );
  showPanel(
    address,
    [
      h("p", { class: "claim-text" }, h("b", {}, "Its bet: "), method.claim),
      method.paper
        ? h(
            "p",
            { class: "soft" },
            method.title,
            ". ",
            /^https?:/.test(method.paper)
              ? h("a", { href: method.paper, rel: "noopener noreferrer" }, method.paper)
              : method.paper,
          )
        : h("p", { class: "soft" }, method.title),
      ...boards.flatMap((board) => onBoard(board, address, width)),
      h("h3", {}, "How to use it"),
      h("pre", { tabindex: "0" }, h("code", {}, code)),
      h(
        "div",
        { class: "copy" },
        h("button", { type: "button", class: "quiet", onclick: () => toClipboard(code) }, "Copy"),
      ),
      named.length ? h("h3", {}, "Claims about it") : null,
      named.length
        ? h(
            "ul",
            {},
            named.map(([title, claim]) =>
              h(
                "li",
                {},
                h("a", { href: `#claim-${claim.slug}` }, title),
                `: ${claim.before.toFixed(2)} \u2192 ${claim.after.toFixed(2)}`,
              ),
            ),
          )
        : null,
      method.description?.length
        ? h(
            "details",
            {},
            h("summary", {}, "Formula and source"),
            method.description.map((text) => h("p", {}, text)),
          )
        : null,
      method.invariants?.length
        ? h("p", { class: "soft" }, `Preserves: ${method.invariants.join("; ")}.`)
        : null,
      h(
        "p",
        { class: "soft" },
        h(
          "a",
          {
            href: "#trials",
            onclick: () => dispatchEvent(new CustomEvent("trials-of", { detail: address })),
          },
          "Its trials",
        ),
      ),
    ],
    { kicker: `method, ${entry.theme}` },
  );
  return true;
}

export function startMethods() {
  route("method-", showMethod);
  const place = byId("method-list");
  if (!place) return;
  for (const theme of themes) {
    const inside = data.contestants.filter((entry) => entry.theme === theme);
    place.append(
      h(
        "section",
        { class: "theme" },
        h("h3", {}, theme),
        h(
          "ul",
          {},
          inside.map((entry) =>
            h(
              "li",
              {},
              h(
                "a",
                { href: `#method-${encodeURIComponent(entry.name)}` },
                dot(colour(entry.name)),
                entry.name,
              ),
              " ",
              h("small", {}, data.methods[entry.method].claim),
            ),
          ),
        ),
      ),
    );
  }
}
