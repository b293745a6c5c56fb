import "tabulator-tables/dist/css/tabulator.min.css";
import "./style.css";
import { startBoard } from "./board.js";
import { startCurves, startForest, startRates, startTradeoff } from "./charts.js";
import { startClaims } from "./claims.js";
import { addCopyButtons } from "./copy.js";
import { byId } from "./dom.js";
import { startMethods } from "./methods.js";
import { startRelevance } from "./relevance.js";
import { follow } from "./route.js";
import { startMap } from "./tree.js";
import { startTrials } from "./trials.js";

document.documentElement.classList.replace("no-script", "script");
addCopyButtons(byId("page"));
startBoard();
startTradeoff();
startForest();
startCurves();
startRates();
startMap();
startRelevance();
startClaims();
startMethods();
startTrials();
startTheme();
follow();

function startTheme() {
  const button = byId("theme-toggle");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const is = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(is()));
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = is() ? "light" : "dark";
    show();
  });
  show();
}
