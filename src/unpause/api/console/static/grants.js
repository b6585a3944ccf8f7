// Grants: decisions that count for later calls, and revoking them.

import { api } from "./api.js";
import { announce, fill, h } from "./dom.js";
import { callText, valueText, when } from "./format.js";
import { sessionPath } from "./paths.js";
import { start } from "./shell.js";
import { loading, notice, problem } from "./states.js";

const FILTERS = [["agent_id", "Agent"], ["tool_name", "Tool"], ["session_id", "Session"]];
const SCOPES = { run: "for one run", session: "for one session", until: "until a time" };

function whatOf(grant) {
  return grant.match === "tool" || !grant.arguments ? `${valueText(grant.tool_name).slice(1, -1)} with any arguments` : callText(grant.tool_name, grant.arguments);
}

function state(grant) {
  if (grant.revoked_at) return h("span", { class: "badge" }, "revoked", grant.revoked_by && [" by ", h("bdi", {}, grant.revoked_by)]);
  return grant.active ? h("span", { class: "badge good" }, "in force") : h("span", { class: "badge" }, "over");
}

function row(grant, revoke) {
  const text = whatOf(grant);
  const item = h("li", { class: `row token${grant.active ? "" : " over"}`, data: { id: grant.grant_id } },
    h("div", { class: "what" },
      h("p", { class: "call" }, h("code", {}, text)),
      h("p", { class: "origin" },
        h("span", {}, h("bdi", {}, grant.agent_id), ` · ${SCOPES[grant.scope] ?? grant.scope}`,
          grant.session_id && [" · session ", h("a", { href: sessionPath(grant.session_id) }, grant.session_id)],
          grant.until && [" · ends ", when(grant.until)]),
        state(grant)),
      h("p", { class: "origin" }, h("span", {}, "granted by ", h("bdi", {}, grant.granted_by ?? "somebody"), " ", when(grant.created_at),
        ` · used ${grant.uses === 1 ? "once" : `${grant.uses} times`}`, grant.last_used_at && [", last ", when(grant.last_used_at)]))),
    grant.active && h("div", { class: "buttons" }, h("button", { type: "button", class: "bad", on: { click: () => revoke(grant, item) } }, "Revoke", h("span", { class: "hidden" }, ` ${text}`))));
  return item;
}

start(async ({ main }) => {
  const list = h("ul", { class: "rows plain", "aria-label": "Grants, newest first" });
  const below = h("div", { class: "below" });
  const trouble = h("div");
  const only = h("input", { type: "checkbox", id: "active", checked: true });
  const form = h("form", { class: "search-runs", role: "search", "aria-label": "Filter grants", on: { submit: (event) => { event.preventDefault(); read(null); }, change: () => read(null) } },
    h("div", { class: "filters" }, FILTERS.map(([name, title]) => h("div", {}, h("label", { for: name }, title), h("input", { id: name, name, placeholder: "any", autocomplete: "off", spellcheck: "false" }))), h("button", { type: "submit" }, "Find")),
    h("p", { class: "field check" }, only, " ", h("label", { for: "active" }, "In force only")));

  async function load(cursor) {
    fill(below, loading());
    const chosen = Object.fromEntries(FILTERS.map(([name]) => [name, form.elements[name].value.trim()]));
    const { data, next } = await api.get("/grants", { ...chosen, active: only.checked ? true : null, cursor });
    if (cursor === null) fill(list);
    list.append(...data.map((grant) => row(grant, revoke)));
    if (!list.children.length) fill(below, notice("No grants", "A decision counts for later calls where the author of the tool allows it and the person who decides chooses it."));
    else fill(below, next && h("button", { type: "button", on: { click: () => read(next) } }, "Show more"));
  }
  const read = (cursor) => load(cursor).catch((error) => fill(below, problem(error, () => read(cursor))));

  async function revoke(grant, item) {
    try {
      const revoked = await api.delete(`/grants/${encodeURIComponent(grant.grant_id)}`);
      const now = row(revoked, revoke);
      item.replaceWith(now);
      now.tabIndex = -1;
      now.focus();
      announce("Revoked: the next call waits for people again");
      fill(trouble);
    } catch (error) {
      fill(trouble, h("div", { class: "alert bad", role: "alert" }, h("p", {}, error.message)));
    }
  }

  fill(main, h("h1", {}, "Grants"), h("p", { class: "muted" }, "Decisions that also count for later calls. A call that one of them covers does not wait."), trouble, form, list, below);
  await load(null);
});
