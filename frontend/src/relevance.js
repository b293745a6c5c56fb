// The slider of relevance: the whole map is scored again, from the table that the scorer made.

import { byId, h } from "./dom.js";
import { choose, chosen, credence, data, follow } from "./page.js";

export function startRelevance() {
  const place = byId("relevance-control");
  const relevance = data.map?.relevance;
  if (!place || !relevance) return;
  const { grid, own } = relevance;
  const number = h("output", { for: "relevance" });
  const theses = h("span", { class: "theses", role: "status" });
  const slider = h("input", {
    id: "relevance",
    type: "range",
    min: 0,
    max: grid.length - 1,
    step: 1,
    "aria-describedby": "relevance-note",
  });
  slider.value = grid.indexOf(own);
  slider.addEventListener("input", () => choose("relevance", grid[Number(slider.value)]));
  const reset = h(
    "button",
    {
      type: "button",
      class: "quiet",
      onclick: () => {
        slider.value = grid.indexOf(own);
        choose("relevance", own);
      },
    },
    `as fitted (${own.toFixed(2)})`,
  );
  const show = () => {
    const at = chosen("relevance");
    number.textContent = at.toFixed(2);
    slider.setAttribute("aria-valuetext", at.toFixed(2));
    theses.replaceChildren(
      ...data.map.theses.map((title) =>
        h(
          "span",
          {},
          `${title}: ${data.map.claims[title].before.toFixed(3)} \u2192 `,
          h("b", { class: "thesis-now", dataset: { title } }, credence(title).toFixed(3)),
        ),
      ),
    );
  };
  place.append(h("label", { for: "relevance" }, "relevance "), slider, " ", number, reset, theses);
  follow(["relevance"], show);
  show();
}
