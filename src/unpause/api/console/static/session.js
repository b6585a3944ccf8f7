// One session: its runs, newest first.

import { api, root } from "./api.js";
import { fill, h } from "./dom.js";
import { when } from "./format.js";
import { runRow } from "./run-row.js";
import { start } from "./shell.js";
import { notice, problem } from "./states.js";

const PAGE = 50;

start(async ({ main, id }) => {
  const session = await api.get(`/sessions/${encodeURIComponent(id)}`);
  const list = h("ul", { class: "rows plain", "aria-label": "Runs of this session, newest first" });
  const below = h("div", { class: "below" });
  const state = Object.keys(session.session_state ?? {}).length ? session.session_state : null;
  document.title = `${session.session_name || id} · Unpause`;
  fill(main,
    h("h1", { dir: "auto" }, session.session_name || id),
    h("p", { class: "origin" }, h("span", {}, session.agent_id && h("bdi", {}, session.agent_id), session.user_id && [" · of ", h("bdi", {}, session.user_id)], " · created ", when(session.created_at), " · used ", when(session.updated_at)),
      h("a", { href: `${root}/console/runs?session_id=${encodeURIComponent(id)}` }, "Search its runs")),
    h("p", { class: "muted small" }, h("code", {}, id)),
    state && h("details", { class: "panel" }, h("summary", {}, "Session state"), h("pre", { tabindex: "0" }, JSON.stringify(state, null, 2))),
    h("h2", {}, "Runs"), list, below);

  async function load(cursor = null) {
    const { data, next } = await api.get("/runs", { session_id: id, limit: PAGE, cursor });
    list.append(...data.map(runRow));
    if (!list.children.length) fill(below, notice("No runs", "This session has no runs yet, or none that you may see."));
    else fill(below, next && h("button", { type: "button", on: { click: () => read(next) } }, "Show more"));
  }
  const read = (cursor) => load(cursor).catch((error) => fill(below, problem(error, () => read(cursor))));
  await load();
});
