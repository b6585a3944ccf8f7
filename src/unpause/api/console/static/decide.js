// Sends decisions, and describes their results. The server alone decides who may decide what.

import { acting } from "./acting.js";
import { api, newKey } from "./api.js";
import { h } from "./dom.js";
import { when } from "./format.js";

const DONE = { approve: "approved", reject: "rejected", answer: "answered" };

/** Return the decision that says yes to a request of this kind. */
export const yesOf = (item) => (item.kind === "confirmation" || item.needs_approval ? "approve" : "answer");

/** Whether the request can be approved from its row: nothing has to be filled in. */
export const isPlain = (item) => item.kind === "confirmation" && !(item.form?.required ?? []).length;

/**
 * Send one decision. Return `{ requirement, run, continued }`, or with `lost` the decision that was faster. A key that
 * is passed again has the decision made once, however often it is sent.
 */
export async function decide(item, body, key = newKey()) {
  try {
    return await api.change(`/inbox/${encodeURIComponent(item.requirement_id)}/decide`, { continue: true, ...acting(), ...body }, key);
  } catch (error) {
    // Without a decision the run was cancelled: the error's own words say so.
    if (error.status === 409 && error.body.decision) return { lost: error.body.decision };
    throw error;
  }
}

/** Send the same decision on several requests; return the server's results, in their order. */
export async function decideAll(items, body) {
  const decisions = items.map((item) => ({ requirement_id: item.requirement_id, continue: true, ...acting(), ...body }));
  const { data } = await api.change("/inbox/decide", { decisions });
  return data;
}

/** Return who decided what and when, as in `ops-lead approved 3 s ago`. */
export function decisionText(decision) {
  return [
    h("strong", {}, h("bdi", {}, decision.by ?? (decision.via === "expiry" ? "The time limit" : "Somebody"))),
    ` ${DONE[decision.decision] ?? decision.decision} `,
    when(decision.at),
    decision.note && [": ", h("q", { dir: "auto" }, decision.note)],
  ];
}

const RUN_STATES = {
  PENDING: "The run goes on.",
  RUNNING: "The run goes on.",
  PAUSED: "The run still waits for other answers.",
  COMPLETED: "The run is complete.",
  ERROR: "The run has failed.",
  CANCELLED: "The run is cancelled.",
};

/** Return what the run does now. */
export const runText = (status) => RUN_STATES[status] ?? `The run is ${status}.`;

function dialogOf(title, content, buttons) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const dialog = h(
      "dialog",
      {
        "aria-labelledby": "dialog-title",
        on: {
          close: () => {
            dialog.remove();
            before?.focus?.();
            resolve(dialog.returnValue);
          },
        },
      },
      h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), content, h("div", { class: "buttons" }, buttons)),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

const cancel = () => h("button", { value: "", formnovalidate: true }, "Cancel");

/** Ask before something that cannot be undone; resolve to whether it is done. */
export async function ask(title, content, label) {
  return (await dialogOf(title, content, [cancel(), h("button", { value: "yes", class: "bad strong" }, label)])) === "yes";
}

/** Ask whether a call that may have run is to run again; resolve to whether it is. */
export async function confirmDoubt(item, text) {
  const answer = await dialogOf(
    "Run it a second time?",
    [
      h("p", {}, "The server stopped while this call was running: nobody knows whether it took effect. Look at what it changes first."),
      h("pre", {}, text),
      item.explanation && h("p", { class: "muted" }, item.explanation),
    ],
    [cancel(), h("button", { value: "yes", class: "bad strong" }, "Run it again")],
  );
  return answer === "yes";
}

/** Ask for the reason of a rejection; resolve to the note, which may be empty, or null where it is called off. */
export async function askNote(count) {
  const note = h("textarea", { id: "reject-note", rows: 3, autofocus: true });
  const answer = await dialogOf(
    count === 1 ? "Reject the call" : `Reject ${count} calls`,
    h("div", { class: "field" }, h("label", { for: "reject-note" }, "Note for the agent (optional)"), note),
    [cancel(), h("button", { value: "yes", class: "bad strong" }, "Reject")],
  );
  return answer === "yes" ? note.value.trim() : null;
}

/** Ask before several calls are approved at once; resolve to whether they are. */
export async function confirmMany(texts) {
  const answer = await dialogOf(
    `Approve ${texts.length} calls`,
    h("ul", { class: "calls" }, texts.map((text) => h("li", {}, h("code", {}, text)))),
    [cancel(), h("button", { value: "yes", class: "good" }, "Approve all")],
  );
  return answer === "yes";
}
