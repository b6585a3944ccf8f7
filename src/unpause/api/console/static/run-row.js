// What lists say of a run: its status, its prompt, and what it waits for.

import { h } from "./dom.js";
import { when } from "./format.js";
import { runPath } from "./paths.js";

export const STATUSES = ["PENDING", "RUNNING", "PAUSED", "COMPLETED", "ERROR", "CANCELLED"];
export const isFinal = (status) => ["COMPLETED", "ERROR", "CANCELLED"].includes(status);

const CLASSES = { RUNNING: "accent", PAUSED: "warn", COMPLETED: "good", ERROR: "bad" };
const WORDS = { PENDING: "queued", RUNNING: "running", PAUSED: "paused", COMPLETED: "completed", ERROR: "failed", CANCELLED: "cancelled" };

/** Return a status as a word. */
export const statusWord = (status) => WORDS[status] ?? status;

/** Return a status as a badge. */
export const statusBadge = (status) => h("span", { class: `badge ${CLASSES[status] ?? ""}` }, statusWord(status));

/** Return what a paused run waits for. */
export function waitingText(run) {
  if (run.status !== "PAUSED") return null;
  const count = run.open_requirements;
  const what = count === 0 ? "paused on request" : count === 1 ? "waits for a decision" : `waits for ${count} decisions`;
  return [what, ", since ", when(run.waiting_since)];
}

/** Return the run as a row of a list. */
export function runRow(run) {
  const line = run.prompt.trim().split("\n")[0];
  return h(
    "li",
    { class: "row run", data: { id: run.run_id } },
    statusBadge(run.status),
    h(
      "div",
      { class: "what" },
      h("a", { class: "call", href: runPath(run.run_id), dir: "auto" }, line || "(no text)"),
      run.error && run.status === "ERROR" && h("p", { class: "reason bad", dir: "auto" }, run.error.message),
      h(
        "p",
        { class: "origin" },
        h("span", {}, h("bdi", {}, run.agent_id), run.user_id && [" · by ", h("bdi", {}, run.user_id)], " · ", when(run.created_at)),
        run.status === "PAUSED" && h("span", { class: "badge warn" }, waitingText(run)),
      ),
    ),
  );
}
