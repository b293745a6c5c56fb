// Addresses inside the page: a fragment names a section, a claim, a method or a trial.

import { hidePanel } from "./panel.js";

const routes = [];

export function route(prefix, open) {
  routes.push({ prefix, open });
}

export function goTo(fragment) {
  if (location.hash.slice(1) === fragment) follow();
  else location.hash = fragment;
}

export function follow() {
  let fragment = location.hash.slice(1);
  try {
    fragment = decodeURIComponent(fragment);
  } catch {
    // A fragment that is no address is taken as it stands.
  }
  const found = routes.some(
    ({ prefix, open }) => fragment.startsWith(prefix) && open(fragment.slice(prefix.length)),
  );
  if (!found) hidePanel();
}

addEventListener("hashchange", follow);
