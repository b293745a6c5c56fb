// The data of the page, and what the reader has chosen.

import { byId } from "./dom.js";

export const data = JSON.parse(byId("report-data").textContent);

export const contestants = new Map(data.contestants.map((entry) => [entry.name, entry]));
export const themes = [...new Set(data.contestants.map((entry) => entry.theme))].sort();
export const many = data.contestants.length > 10;

const THEME_COLOURS = [
  "#2f6fb5",
  "#d1642f",
  "#2e8b57",
  "#8454a8",
  "#b8922a",
  "#c43d5b",
  "#3a9aa3",
  "#6b7785",
  "#a0522d",
  "#5b8c2a",
];

// With many contestants a colour for each says nothing: then a theme has one.
export function colour(name) {
  const entry = contestants.get(name);
  if (!entry) return "currentColor";
  return many ? THEME_COLOURS[themes.indexOf(entry.theme) % THEME_COLOURS.length] : entry.colour;
}

export const themeColour = (theme) => THEME_COLOURS[themes.indexOf(theme) % THEME_COLOURS.length];

const listeners = new Map();
const state = { board: data.boards[0], theme: "", task: "", relevance: data.map?.relevance?.own ?? null };

export const chosen = (key) => state[key];

export function choose(key, value) {
  if (state[key] === value) return;
  state[key] = value;
  for (const listener of listeners.get(key) ?? []) listener(value);
}

export function follow(keys, listener) {
  for (const key of keys) listeners.set(key, [...(listeners.get(key) ?? []), listener]);
}

export const methodOf = (name) => contestants.get(name)?.method ?? name;

// Values of a contestant on the chosen task, or over all tasks of the board.
export function resultsOf(board, task) {
  if (!task || !board.tasks.includes(task)) return new Map(board.rows.map((row) => [row.name, row]));
  return new Map(board.by_task.filter((each) => each.task === task).map((each) => [each.name, each]));
}

// Credence of a claim at the chosen relevance.
export function credence(title) {
  const claim = data.map.claims[title];
  const relevance = data.map.relevance;
  if (!relevance || state.relevance === null) return claim.after;
  const row = relevance.credences[relevance.grid.indexOf(state.relevance)];
  return row[titles.indexOf(title)];
}

export const titles = data.map ? Object.keys(data.map.claims) : [];
