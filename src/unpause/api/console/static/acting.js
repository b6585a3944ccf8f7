// Whom a caller without a user of its own acts for: on a server without authentication, and with a program's token.

import { byId, fill, h } from "./dom.js";

const KEPT = "unpause.acting-for";
let isNameless = false;

function read() {
  try {
    return localStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

/** Return what such a caller adds to a request about the inbox; nothing for a user. */
export function acting() {
  const name = isNameless ? read() : "";
  return name ? { acting_for: name } : {};
}

function change() {
  const input = h("input", { id: "acting-for", value: read(), maxlength: 255, autocomplete: "off", autofocus: true });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "acting-title", on: { close: () => dialog.remove() } },
    h(
      "form",
      {
        method: "dialog",
        on: {
          submit: (event) => {
            if (event.submitter?.value !== "save") return;
            try {
              localStorage.setItem(KEPT, input.value.trim());
            } catch {
              // A browser that keeps nothing cannot act for anybody.
            }
            location.reload();
          },
        },
      },
      h("h2", { id: "acting-title" }, "Who are you?"),
      h("p", {}, "This sign-in has no user. Decisions are recorded under the name that you enter."),
      h("div", { class: "field" }, h("label", { for: "acting-for" }, "Name"), input),
      h("div", { class: "buttons" }, h("button", { value: "save", class: "primary" }, "Save"), h("button", { value: "" }, "Cancel")),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** Show who acts, and let a caller without a user say it. */
export function showMe(me) {
  isNameless = me.user_id === null;
  const place = byId("me");
  const organization = h("span", { class: "muted" }, ` · ${me.organization_name}`);
  if (!isNameless) {
    fill(place, h("bdi", {}, me.user_id), organization);
    return;
  }
  const name = read();
  const button = h("button", { type: "button", class: "quiet", on: { click: change } }, name ? ["acting as ", h("bdi", {}, name)] : "Who are you?");
  fill(place, button, organization);
}
