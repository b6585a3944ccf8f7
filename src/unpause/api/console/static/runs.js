// Runs: filters, search, and pages of what they find.

import { api, root } from "./api.js";
import { announce, fill, h } from "./dom.js";
import { addKeys } from "./keys.js";
import { STATUSES, runRow, statusWord } from "./run-row.js";
import { start } from "./shell.js";
import { loading, notice, problem } from "./states.js";

const PAGE = 50;
// A page of a text search may be empty though another one is not.
const MAX_EMPTY_PAGES = 20;
const TEXTS = [["search", "Text or id"], ["agent_id", "Agent"], ["user_id", "User"], ["session_id", "Session"]];

function readFilters() {
  const query = new URLSearchParams(location.search);
  const filters = Object.fromEntries(TEXTS.map(([name]) => [name, query.get(name) ?? ""]));
  return { ...filters, status: query.getAll("status").filter((status) => STATUSES.includes(status)) };
}

function addressOf(filters) {
  const query = new URLSearchParams();
  for (const status of filters.status) query.append("status", status);
  for (const [name] of TEXTS) if (filters[name]) query.set(name, filters[name]);
  return `${root}/console/runs${query.size ? `?${query}` : ""}`;
}

/** Return the form of the filters; `apply(filters)` is called when they change. */
function filterForm(filters, apply) {
  const boxes = STATUSES.map((status) =>
    h("label", { class: "chip" }, h("input", { type: "checkbox", name: "status", value: status, checked: filters.status.includes(status) }), statusWord(status)));
  const fields = TEXTS.map(([name, title]) =>
    h("div", {}, h("label", { for: name }, title), h("input", { id: name, name, value: filters[name], type: name === "search" ? "search" : "text", placeholder: "any", autocomplete: "off", spellcheck: "false" })));
  const form = h(
    "form",
    { class: "search-runs", role: "search", "aria-label": "Filter runs", on: { submit: (event) => { event.preventDefault(); send(); }, change: () => send() } },
    h("fieldset", { class: "chips" }, h("legend", { class: "hidden" }, "Status"), boxes),
    h("div", { class: "filters four" }, fields, h("button", { type: "submit" }, "Find")),
  );
  const send = () => {
    const chosen = [...form.querySelectorAll("[name=status]:checked")].map((box) => box.value);
    apply({ ...Object.fromEntries(TEXTS.map(([name]) => [name, form.elements[name].value.trim()])), status: chosen });
  };
  return form;
}

start(async ({ main }) => {
  let filters = readFilters();
  let reading = 0;
  const list = h("ul", { class: "rows plain", "aria-label": "Runs, newest first" });
  const below = h("div", { class: "below" });

  async function load(cursor = null) {
    const turn = (reading += 1);
    fill(below, loading());
    let page = { data: [], next: cursor };
    for (let tries = 0; tries < MAX_EMPTY_PAGES && !page.data.length && (tries === 0 || page.next); tries += 1) {
      page = await api.get("/runs", { ...filters, limit: PAGE, cursor: page.next });
      if (turn !== reading) return;
    }
    const rows = page.data.map(runRow);
    if (cursor === null) fill(list, rows);
    else list.append(...rows);
    if (cursor !== null) rows[0]?.querySelector("a").focus();
    announce(`${list.children.length} runs`);
    showBelow(page.next);
  }

  const read = (cursor) => load(cursor).catch((error) => fill(below, problem(error, () => read(cursor))));

  function showBelow(next) {
    const isFiltered = filters.status.length > 0 || TEXTS.some(([name]) => filters[name]);
    if (next) {
      fill(below, h("button", { type: "button", on: { click: () => read(next) } }, list.children.length ? "Show more" : "Look further back"));
    } else if (list.children.length) {
      fill(below, h("p", { class: "muted" }, "These are all."));
    } else if (isFiltered) {
      fill(below, notice("Nothing matches", "No run that you may see has all of these.", h("a", { href: addressOf({ status: [] }) }, "Clear the filters")));
    } else {
      fill(below, notice("No runs yet", "A run appears here as soon as a client creates one."));
    }
  }

  const apply = (chosen) => {
    if (addressOf(chosen) === addressOf(filters)) return;
    filters = chosen;
    history.replaceState(null, "", addressOf(filters));
    read(null);
  };
  main.append(filterForm(filters, apply), list, below);
  addKeys({
    "/": ["Search", () => main.querySelector("#search").focus()],
    u: ["Read the list again", () => read(null)],
    j: ["Next run", () => move(1)],
    k: ["Previous run", () => move(-1)],
  });
  const move = (by) => {
    const links = [...list.querySelectorAll("a.call")];
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  };
  await load();
});
