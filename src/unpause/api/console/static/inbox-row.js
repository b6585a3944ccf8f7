// One request as a row of the inbox.

import { h, visible } from "./dom.js";
import { isPlain } from "./decide.js";
import { callText, when } from "./format.js";
import { requestPath } from "./paths.js";

/** Return what else one has to know about a request, as badges. */
export function badgesOf(item) {
  const soon = item.expires_at && new Date(item.expires_at) - Date.now() < 15 * 60_000;
  return [
    item.in_doubt && h("span", { class: "badge bad" }, "in doubt: may already have run"),
    item.needs_approval && h("span", { class: "badge" }, "needs an administrator"),
    item.quorum > 1 && h("span", { class: "badge accent" }, `votes ${item.votes.length}/${item.quorum}`),
    item.kind === "user_input" && h("span", { class: "badge accent" }, "form"),
    item.kind === "question" && h("span", { class: "badge accent" }, "question"),
    item.kind === "external_execution" && h("span", { class: "badge accent" }, "result needed"),
    item.expires_at && h("span", { class: soon ? "badge warn" : "badge" }, "expires ", when(item.expires_at)),
  ];
}

/** Return the line of who and when. */
export function originOf(item) {
  return [
    h("bdi", {}, item.agent_id),
    item.started_by && [" · started by ", h("bdi", {}, item.started_by)],
    " · ",
    when(item.created_at),
  ];
}

/** Return the row. `act(item, verb)` is called by its buttons, `choose(item, isChosen)` by its checkbox. */
export function rowOf(item, { act, choose }) {
  const text = callText(item.tool_name, item.arguments);
  const name = visible(item.tool_name);
  const link = h("a", { class: "call", href: requestPath(item.requirement_id) }, h("code", {}, h("strong", {}, name), text.slice(name.length)));
  const box = h("input", {
    type: "checkbox", "aria-label": `Select ${text}`, disabled: !item.may_decide, on: { change: () => choose(item, box.checked) },
  });
  const button = (verb, label, className) =>
    h("button", { type: "button", class: className, on: { click: () => act(item, verb) } }, label, h("span", { class: "hidden" }, ` ${text}`));
  return h(
    "li",
    { class: "row", data: { id: item.requirement_id } },
    box,
    h(
      "div",
      { class: "what" },
      link,
      item.reason && h("p", { class: "reason", dir: "auto" }, item.reason),
      h("p", { class: "origin" }, h("span", {}, originOf(item)), badgesOf(item), !item.may_decide && item.why_not && h("span", { class: "badge" }, item.why_not)),
    ),
    item.may_decide &&
      h(
        "div",
        { class: "buttons" },
        isPlain(item)
          ? button("approve", "Approve", "good soft")
          : h("a", { class: "button", href: requestPath(item.requirement_id) }, "Answer", h("span", { class: "hidden" }, ` ${text}`)),
        item.kind !== "question" && button("reject", "Reject", "bad"),
      ),
  );
}
