// A panel at the side for one claim or one method.

import { byId, h } from "./dom.js";

let before = null;

export function showPanel(heading, body, { kicker }) {
  const panel = byId("panel");
  const top = h(
    "div",
    { class: "panel-top" },
    h("p", { class: "kicker" }, kicker),
    h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: closePanel }, "\u2715"),
  );
  const title = h("h2", { id: "panel-title", tabindex: "-1" }, heading);
  panel.replaceChildren(top, title, ...body.filter(Boolean));
  if (panel.hidden) before = document.activeElement;
  panel.hidden = false;
  document.body.classList.add("with-panel");
  panel.scrollTop = 0;
  title.focus({ preventScroll: true });
}

export function hidePanel() {
  const panel = byId("panel");
  if (!panel || panel.hidden) return;
  panel.hidden = true;
  document.body.classList.remove("with-panel");
}

export function closePanel() {
  hidePanel();
  history.replaceState(null, "", location.pathname + location.search);
  if (before?.isConnected) before.focus({ preventScroll: true });
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !byId("panel").hidden) closePanel();
});
