// Sessions: the conversations that runs belong to.

import { api } from "./api.js";
import { fill, h } from "./dom.js";
import { when } from "./format.js";
import { sessionPath } from "./paths.js";
import { start } from "./shell.js";
import { loading, notice, problem } from "./states.js";

const PAGE = 50;
const FILTERS = [["session_name", "Name"], ["component_id", "Agent"], ["user_id", "User"]];

function row(session) {
  return h("li", { class: "row session" },
    h("div", { class: "what" },
      h("a", { class: "call", href: sessionPath(session.session_id), dir: "auto" }, session.session_name || session.session_id),
      h("p", { class: "origin" }, h("span", {}, session.agent_id && [h("bdi", {}, session.agent_id), " · "], session.user_id && ["of ", h("bdi", {}, session.user_id), " · "], "created ", when(session.created_at)))),
    h("span", { class: "muted small" }, "used ", when(session.updated_at)));
}

start(async ({ main }) => {
  const query = new URLSearchParams(location.search);
  const list = h("ul", { class: "rows plain", "aria-label": "Sessions" });
  const below = h("div", { class: "below" });
  const form = h("form", { role: "search", class: "filters", "aria-label": "Filter sessions", on: { submit: (event) => { event.preventDefault(); read(1); }, change: () => read(1) } },
    FILTERS.map(([name, title]) => h("div", {}, h("label", { for: name }, title), h("input", { id: name, name, value: query.get(name) ?? "", placeholder: "any", autocomplete: "off", spellcheck: "false" }))),
    h("button", { type: "submit" }, "Find"));

  let turn = 0;
  async function load(page) {
    const mine = (turn += 1);
    const chosen = Object.fromEntries(FILTERS.map(([name]) => [name, form.elements[name].value.trim()]));
    history.replaceState(null, "", `?${new URLSearchParams(Object.entries(chosen).filter(([, value]) => value))}`);
    fill(below, loading());
    const { data, meta } = await api.get("/sessions", { ...chosen, limit: PAGE, page, sort_by: "updated_at" });
    if (mine !== turn) return;
    if (page === 1) fill(list);
    list.append(...data.map(row));
    const count = h("p", { class: "muted" }, `${list.children.length.toLocaleString()} of ${meta.total_count.toLocaleString()}`);
    if (!list.children.length) fill(below, notice("No sessions", "A session is made with its first run."));
    else fill(below, count, page < meta.total_pages && h("button", { type: "button", on: { click: () => read(page + 1) } }, "Show more"));
  }
  const read = (page) => load(page).catch((error) => fill(below, problem(error, () => read(page))));

  main.append(form, list, below);
  await load(1);
});
