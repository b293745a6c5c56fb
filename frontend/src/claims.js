// Claims: the list, and the panel of each with its sentence, premises, evidence, contest and geometry.

import { byId, h } from "./dom.js";
import { effectText, factor, finite, percent, pvalue, signed } from "./format.js";
import { copyButtons, dataTable } from "./copy.js";
import { forest } from "./charts.js";
import { grid } from "./grid.js";
import { credence, data, follow, titles } from "./page.js";
import { showPanel } from "./panel.js";
import { route } from "./route.js";

const SIGNS = { support: "supports", premise: "is a premise of", attack: "attacks", undercut: "undercuts" };

const claimLink = (title) => h("a", { href: `#claim-${data.map.claims[title].slug}` }, title);

function now(title) {
  const { before } = data.map.claims[title];
  const value = credence(title);
  return h(
    "b",
    { class: value > before + 5e-4 ? "good" : value < before - 5e-4 ? "bad" : null },
    value.toFixed(2),
  );
}

const change = (title) =>
  h("span", { class: "change" }, `${data.map.claims[title].before.toFixed(2)} \u2192 `, now(title));

export function trialLink(id) {
  return h("a", { class: "id", href: `#t-${id}` }, id.slice(0, 8));
}

function pairsOf(part) {
  if (!part.pairs?.length) return null;
  const table = h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["task", "seed", "difference", "trials"].map((text) => h("th", { scope: "col" }, text)),
      ),
    ),
    h(
      "tbody",
      {},
      part.pairs.map(([task, seed, difference, trials]) =>
        h(
          "tr",
          {},
          h("td", {}, task),
          h("td", {}, seed || ""),
          h("td", { class: "n" }, signed(difference, 4)),
          h(
            "td",
            {},
            trials.map((id) => [trialLink(id), " "]),
          ),
        ),
      ),
    ),
  );
  return h(
    "details",
    {},
    h("summary", {}, `${part.pairs.length} pairs of runs`),
    h("div", { class: "scroll" }, table),
    copyButtons(
      () => ({
        head: ["task", "seed", "difference", "trials"],
        rows: part.pairs.map(([task, seed, difference, trials]) => [
          task,
          seed,
          difference,
          trials.join(" "),
        ]),
      }),
      "the pairs",
    ),
  );
}

function testOf(test, heading) {
  if (!test) return [];
  const found = [h("h3", {}, heading)];
  for (const [i, part] of test.parts.entries()) {
    found.push(h("p", {}, test.parts.length > 1 ? `${i + 1}. ` : "", part.says));
    if (part.effect)
      found.push(
        h(
          "p",
          {},
          h("b", {}, effectText(part.effect)),
          finite(part.effect[3]) ? `, p ${pvalue(part.effect[3])}` : "",
          finite(part.same) ? `; equivalent: p ${pvalue(part.same)}` : "",
        ),
        pairsOf(part),
      );
  }
  if (test.untested) found.push(h("p", { class: "soft" }, `Not tested: ${test.untested}.`));
  else
    found.push(
      h(
        "p",
        {},
        "Bayes factor ",
        h("b", {}, factor(test.factor)),
        ": how far these results alone raise the odds of the claim, on tasks like these.",
      ),
    );
  if (test.sentence) found.push(h("p", { class: "said-by-both" }, test.sentence));
  return found;
}

function evidenceOf(claim, width) {
  const { evidence } = claim;
  const found = [h("h3", {}, "Evidence")];
  if (claim.links.length)
    found.push(
      h(
        "p",
        {},
        claim.links.map(([text, address], i) => [
          i ? ", " : "",
          /^https?:/.test(address) ? h("a", { href: address, rel: "noopener noreferrer" }, text) : text,
        ]),
      ),
    );
  if (!evidence) return claim.links.length ? found : [];
  if (evidence.contradiction) found.push(h("p", { class: "remark" }, evidence.contradiction));
  const ours = evidence.effects.filter(([source]) => source === "this study").length;
  const rows = evidence.effects.map(([source, label, task, value, error], i) => ({
    label: [source === "this study" ? source : `${i + 1 - ours}. ${source}`, label, task]
      .filter(Boolean)
      .join(", "),
    effect: [value, value - 1.96 * error, value + 1.96 * error],
    colour: source === "this study" ? "var(--good)" : "var(--blue)",
  }));
  if (finite(evidence.mean))
    rows.push({ label: "all tables", effect: [evidence.mean, ...evidence.interval], colour: "var(--ink)" });
  found.push(
    h(
      "p",
      {},
      `${evidence.effects.length - ours} published comparisons${ours ? " below this study's" : ""}, in units of the smallest difference that matters; positive supports the first method. I\u00b2 ${percent(evidence.i2)}.`,
    ),
    h("div", { class: "figure" }, forest(rows, { label: "difference (95 % interval)", width })),
    h(
      "p",
      {},
      `Odds of the claim for large models are multiplied by ${factor(evidence.factors.study)} by this study, ${factor(evidence.factors.tables)} by the tables, ${factor(evidence.factors.together)} by both.`,
    ),
    evidence.counted.length
      ? h("p", { class: "soft" }, `The map's credence counts ${evidence.counted.join(", ")} already.`)
      : null,
    dataTable(
      ["source", "model and setting", "task", "difference", "standard error"],
      evidence.effects,
      "the comparisons",
    ),
  );
  return found;
}

// The edges of the map as drawn: each from a node to what it bears on.
function edges() {
  const { nodes } = data.map;
  const known = new Map(nodes.map((node) => [node.id, node]));
  return nodes.flatMap((node) => [
    { from: node, to: known.get(node.parent), sign: node.sign },
    ...(node.also ?? []).map(([sign, other]) => ({ from: known.get(other), to: node, sign })),
  ]);
}

// A section groups what bears on the claim above it, so an edge to a section is one to that claim.
function target({ to }) {
  return to?.kind === "section" ? data.map.nodes.find((node) => node.id === to.parent) : to;
}

const isClaimNode = (node) => node.kind !== "argument" && node.kind !== "section";
const nameOf = (node) =>
  data.map.claims[node.title] && isClaimNode(node) ? claimLink(node.title) : node.title;

function argumentWords({ title, inference }) {
  return h("small", {}, ` (by ${title}${typeof inference === "number" ? `, inference ${inference}` : ""})`);
}

// What a claim rests on; of an argument its premises, each with the argument's sign.
function supports(title) {
  const all = edges();
  return all
    .filter(
      (edge) => edge.from.kind !== "section" && target(edge)?.title === title && isClaimNode(target(edge)),
    )
    .flatMap(({ from, sign }) =>
      from.kind === "argument"
        ? all.filter(({ to }) => to === from).map((edge) => ({ node: edge.from, sign, by: from }))
        : [{ node: from, sign, by: null }],
    );
}

function relations(title) {
  const below = supports(title).map(({ node, sign, by }) =>
    h(
      "li",
      {},
      nameOf(node),
      ` ${SIGNS[sign] ?? ""} it`,
      by ? argumentWords(by) : "",
      data.map.claims[node.title] ? [": ", change(node.title)] : "",
    ),
  );
  const above = edges()
    .filter((edge) => edge.from.title === title && isClaimNode(edge.from) && target(edge))
    .map((edge) => h("li", {}, `${SIGNS[edge.sign] ?? ""} `, nameOf(target(edge))));
  return [
    ...(below.length ? [h("h3", {}, "Rests on"), h("ul", {}, below)] : []),
    ...(above.length ? [h("h3", {}, "Bears on"), h("ul", {}, above)] : []),
  ];
}

function showClaim(slug) {
  const title = titles.find((each) => data.map.claims[each].slug === slug);
  if (!title) return false;
  const claim = data.map.claims[title];
  const width = Math.min(480, document.documentElement.clientWidth) - 48;
  showPanel(
    title,
    [
      claim.text ? h("p", { class: "claim-text" }, claim.text) : null,
      h(
        "p",
        {},
        "Credence ",
        change(title),
        claim.stated !== null ? `; the literature alone: ${claim.stated.toFixed(2)}` : "",
      ),
      claim.reason ? h("p", { class: "soft" }, claim.reason) : null,
      ...testOf(claim.test, "Its contest"),
      ...testOf(claim.geometry, "By geometry"),
      ...evidenceOf(claim, width),
      ...relations(title),
    ],
    { kicker: [claim.role, claim.section].filter(Boolean).join(", ") },
  );
  dispatchEvent(new CustomEvent("reveal-claim", { detail: title }));
  return true;
}

export function startClaims() {
  if (!data.map) return;
  route("claim-", showClaim);
  const place = byId("claims-grid");
  if (!place) return;
  const tested = (claim) => (claim.test && !claim.test.untested ? 2 : claim.test ? 1 : 0);
  const rows = titles.map((title) => ({ title, claim: data.map.claims[title] }));
  let only = "tests";
  const holder = h("div");
  const draw = () => {
    holder.replaceChildren();
    const shown = rows
      .filter(({ claim }) => only === "all" || (only === "tests" ? claim.test : tested(claim) === 2))
      .sort((a, b) => tested(b.claim) - tested(a.claim));
    grid(
      holder,
      [
        {
          title: "claim",
          frozen: true,
          wrap: true,
          width: 180,
          value: (row) => row.title,
          show: (row) => claimLink(row.title),
        },
        { title: "section", wrap: true, width: 110, value: (row) => row.claim.section },
        {
          title: "test",
          wrap: true,
          width: 330,
          value: (row) => (row.claim.test?.parts ?? []).map((part) => part.says).join("; "),
        },
        {
          title: "effect (95 % interval)",
          number: true,
          wrap: true,
          width: 190,
          value: (row) => row.claim.test?.parts?.[0]?.effect?.[0] ?? null,
          show: (row) =>
            row.claim.test?.untested
              ? "not tested"
              : (row.claim.test?.parts ?? []).map((part) => effectText(part.effect)).join("; "),
        },
        {
          title: "Bayes factor",
          number: true,
          value: (row) => row.claim.test?.factor ?? null,
          show: (row) => factor(row.claim.test?.factor),
        },
        {
          title: "before",
          number: true,
          value: (row) => row.claim.before,
          show: (row) => row.claim.before.toFixed(2),
        },
        { title: "after", number: true, value: (row) => credence(row.title), show: (row) => now(row.title) },
      ],
      shown,
      { label: "Claims", maxHeight: shown.length > 12 ? "70vh" : undefined },
    );
  };
  const pick = h(
    "select",
    {
      onchange: (event) => {
        only = event.target.value;
        draw();
      },
    },
    [
      ["tests", "with a test"],
      ["tested", "tested by this study"],
      ["all", "all of the map"],
    ].map(([value, text]) => h("option", { value }, text)),
  );
  place.append(
    h("div", { class: "controls" }, h("label", { class: "choice" }, h("span", {}, "claims"), pick)),
    holder,
  );
  follow(["relevance"], draw);
  draw();
}
