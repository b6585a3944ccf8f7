// The tokens of the organization: listed, created, and revoked after a question.

import { api } from "./api.js";
import { ask } from "./decide.js";
import { announce, fill, h } from "./dom.js";
import { when } from "./format.js";
import { start } from "./shell.js";
import { notice, problem } from "./states.js";
import { tokenForm } from "./token-form.js";

const stateOf = (token) => (token.revoked_at ? ["badge", "revoked"] : token.valid ? ["badge good", "valid"] : ["badge", "expired"]);

function rowOf(token) {
  const [className, state] = stateOf(token);
  const row = h("li", { class: "row token" });
  const revoke = h("button", { type: "button", class: "bad", on: { click: () => revokeToken(token, row) } }, "Revoke", h("span", { class: "hidden" }, ` ${token.token_id}`));
  return fill(
    row,
    h(
      "div",
      { class: "what" },
      h("p", { class: "call" }, h("strong", {}, h("bdi", {}, token.user_id ?? "whom each request names")), token.name && [" · ", h("bdi", {}, token.name)]),
      h("p", { class: "origin" }, h("span", { class: className }, state), h("code", {}, token.token_id),
        h("span", {}, "made ", when(token.created_at)),
        h("span", {}, token.last_used_at ? ["used ", when(token.last_used_at)] : "never used"),
        token.expires_at && !token.revoked_at && h("span", {}, token.valid ? "expires " : "expired ", when(token.expires_at))),
      h("p", { class: "origin" }, token.scopes.join(", ")),
      h("p", { class: "problem", role: "alert" }),
    ),
    token.valid && h("div", { class: "buttons" }, revoke),
  );
}

async function revokeToken(token, row) {
  const text = h("p", {}, "Whoever uses it is refused, and the browsers that it signed in are signed out.");
  if (!(await ask(`Revoke the token ${token.token_id}?`, text, "Revoke"))) return;
  try {
    const revoked = rowOf(await api.delete(`/tokens/${encodeURIComponent(token.token_id)}`));
    row.replaceWith(revoked);
    announce(`Token ${token.token_id} is revoked.`);
  } catch (error) {
    fill(row.querySelector(".problem"), error.message);
  }
}

start(async ({ main }) => {
  const list = h("ul", { class: "rows plain", "aria-label": "Tokens" });
  const below = h("div", { class: "below" });
  main.append(...tokenForm((token) => list.prepend(rowOf(token))), list, below);
  async function load(cursor) {
    const { data, next } = await api.get("/tokens", { cursor });
    list.append(...data.map(rowOf));
    const more = h("button", { type: "button", on: { click: () => load(next).catch((error) => fill(below, problem(error))) } }, "Show more");
    fill(below, next ? more : list.children.length === 0 && notice("There are no tokens", "This server needs none."));
  }
  await load(null);
});
