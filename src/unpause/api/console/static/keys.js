// Shortcuts of single keys, and the help that lists them. A person can switch them off there (WCAG 2.1.4).

import { byId, h } from "./dom.js";

const SWITCH = "unpause.shortcuts";
const shortcuts = new Map();
let areOn = true;

/** Have keys do something: `{ j: ["Next request", () => …] }`. */
export function addKeys(keys) {
  for (const [key, [text, action]] of Object.entries(keys)) shortcuts.set(key, { text, action });
}

function isTyping(target) {
  return target instanceof HTMLElement && target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
}

function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  // A button or a link keeps its own Enter and space.
  if ((event.key === "Enter" || event.key === " ") && event.target.closest?.("a, button, summary, label")) return;
  const found = shortcuts.get(event.key);
  if (found && (areOn || event.key === "Enter")) {
    event.preventDefault();
    found.action(event);
  }
}

function read() {
  try {
    return localStorage.getItem(SWITCH) !== "off";
  } catch {
    return true;
  }
}

function set(on) {
  areOn = on;
  try {
    localStorage.setItem(SWITCH, on ? "on" : "off");
  } catch {
    // A browser that keeps nothing: until the page is left.
  }
}

/** Show the shortcuts of the page. */
export function showHelp() {
  const entries = [...shortcuts].map(([key, { text }]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)]);
  const toggle = h("input", { type: "checkbox", id: "shortcuts-on", checked: areOn, on: { change: () => set(toggle.checked) } });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "help-title", on: { close: () => dialog.remove() } },
    h("h2", { id: "help-title" }, "Keyboard shortcuts"),
    h("dl", { class: "keys" }, entries),
    h("p", {}, toggle, " ", h("label", { for: "shortcuts-on" }, "Use these shortcuts")),
    h("form", { method: "dialog" }, h("button", { class: "primary", autofocus: true }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** Begin to listen. */
export function listen() {
  areOn = read();
  addKeys({ "?": ["Show this help", showHelp] });
  document.addEventListener("keydown", onKey);
  byId("help-button")?.addEventListener("click", showHelp);
}
