// The form that creates a token. Its text is shown once.

import { api } from "./api.js";
import { byId, fill, h } from "./dom.js";

const DAY = 86_400;
const SCOPES = [
  ["agents:read", "see agents and runs"], ["agents:run", "create, continue and cancel runs"],
  ["sessions:read", "see sessions"], ["sessions:write", "change sessions"], ["sessions:delete", "delete sessions"],
  ["approvals:read", "see approvals"], ["approvals:write", "decide approvals"], ["approvals:delete", "delete approvals"],
  ["system:read", "see the configuration"], ["users:read", "see users"],
];
// Those that a token gets by default.
const DEFAULT_SCOPES = new Set(["agents:read", "agents:run", "approvals:read", "sessions:read", "sessions:write", "sessions:delete", "system:read"]);
const ADMIN = "agent_os:admin";
const LIFETIMES = [["", "until it is revoked"], [1, "a day"], [7, "a week"], [30, "30 days"], [90, "90 days"], [365, "a year"]];

function createForm(create) {
  const boxes = SCOPES.map(([scope, text]) =>
    h("p", { class: "check" }, h("input", { type: "checkbox", name: "scope", value: scope, id: `scope-${scope}`, checked: DEFAULT_SCOPES.has(scope) }), " ", h("label", { class: "light", for: `scope-${scope}` }, h("code", {}, scope), h("span", { class: "muted" }, ` ${text}`))));
  const admin = h("input", { type: "checkbox", name: "admin", id: "admin", on: { change: () => { chosen.hidden = admin.checked; } } });
  const more = h("input", { id: "more", name: "more", autocomplete: "off", spellcheck: "false", "aria-describedby": "more-help" });
  const chosen = h("fieldset", {}, h("legend", {}, "Scopes"), boxes,
    h("div", { class: "field" }, h("label", { for: "more" }, "Further scopes"), more, h("p", { class: "help", id: "more-help" }, "Separated by commas, such as agents:ops:run or finance:approve.")));
  const form = h("form", { on: { submit: (event) => { event.preventDefault(); send(); } } },
    h("div", { class: "field" }, h("label", { for: "user" }, "User"), h("input", { id: "user", name: "user", autocomplete: "off", spellcheck: "false", "aria-describedby": "user-help" }), h("p", { class: "help", id: "user-help" }, "Whom the token acts for. Without one, each request names a user: for programs with users of their own.")),
    h("div", { class: "field" }, h("label", { for: "name" }, "Name"), h("input", { id: "name", name: "name", autocomplete: "off", placeholder: "to recognize it by" })),
    h("div", { class: "field" }, h("label", { for: "lifetime" }, "Valid"), h("select", { id: "lifetime", name: "lifetime" }, LIFETIMES.map(([days, text]) => h("option", { value: days, selected: days === 90 }, text)))),
    h("p", { class: "field check" }, admin, " ", h("label", { for: "admin" }, "Administrator: everything in this organization")),
    chosen,
    h("p", { class: "problem", id: "create-problem", role: "alert" }),
    h("button", { type: "submit", class: "primary" }, "Create the token"));
  const send = async () => {
    const scopes = [...form.querySelectorAll("[name=scope]:checked")].map((box) => box.value).concat(more.value.split(",").map((scope) => scope.trim()).filter(Boolean));
    const days = Number(form.elements.lifetime.value);
    const body = { user_id: form.elements.user.value.trim() || null, name: form.elements.name.value.trim() || null, scopes: admin.checked ? [ADMIN] : scopes, expires_in: days ? days * DAY : null };
    fill(byId("create-problem"), "");
    await create(body).then(() => form.reset(), (error) => fill(byId("create-problem"), error.message));
    chosen.hidden = admin.checked;
  };
  return form;
}

/** Return the form, folded, and where a new token is shown; `onCreated(token)` is called with each. */
export function tokenForm(onCreated) {
  const made = h("div");
  const folded = h("details", { class: "panel" }, h("summary", {}, "Create a token"), createForm(async (body) => {
    const { token, text } = await api.post("/tokens", body);
    folded.open = false;
    const copy = h("button", { type: "button", on: { click: () => navigator.clipboard?.writeText(text).then(() => fill(copy, "Copied"), () => {}) } }, "Copy");
    fill(made, h("section", { class: "alert good", tabindex: "-1", "aria-label": "The new token" }, h("p", {}, "Copy the token now: it is not shown again."), h("p", { class: "secret" }, h("code", {}, text), copy)));
    made.firstElementChild.focus();
    onCreated(token);
  }));
  return [made, folded];
}
