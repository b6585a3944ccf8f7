// One request: the call as it would run, what led to it, and the decision.

import { acting } from "./acting.js";
import { api, newKey, root } from "./api.js";
import { confirmDoubt, decide, decisionText, runText, yesOf } from "./decide.js";
import { changedNames, diffOf } from "./diff.js";
import { announce, byId, fill, h, prose, visible } from "./dom.js";
import { callText, when } from "./format.js";
import { formOf } from "./form.js";
import { badgesOf, originOf } from "./inbox-row.js";
import { addKeys } from "./keys.js";
import { follow } from "./live.js";
import { requestPath, runPath } from "./paths.js";
import { rememberField } from "./remember.js";
import { showConnection, start } from "./shell.js";
import { problem } from "./states.js";

const LABELS = { confirmation: "Approve", user_input: "Send the answers", external_execution: "Send the result", question: "Send the answer" };
const TITLES = {
  confirmation: "May it run?", user_input: "Fill in what the call needs", external_execution: "Run it elsewhere, and give its result",
  question: "The agent asks",
};

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// Longer ones scroll in a box of their own, which the keyboard can reach.
const LONG = 1500;

function block(content, name) {
  const long = content.length > LONG ? { class: "long", tabindex: "0", role: "region", "aria-label": name } : {};
  return h("pre", { dir: "auto", ...long }, content);
}

function argumentList(item) {
  const editable = item.status === "open" && item.may_decide ? (item.form?.editable ?? []) : [];
  const entries = Object.entries(item.arguments);
  if (entries.length === 0) return h("p", { class: "muted" }, "The call has no arguments.");
  return h(
    "dl",
    { class: "facts call-arguments" },
    entries.map(([name, value]) => [
      h("dt", {}, h("code", {}, visible(name)), editable.includes(name) && h("div", {}, h("span", { class: "badge accent" }, "you may change it"))),
      h("dd", {}, block(visible(text(value) ?? "null"), name)),
    ]),
  );
}

class RequestPage {
  constructor(main, item) {
    this.main = main;
    this.item = item;
    this.key = newKey();
    this.status = h("div", { id: "status", role: "status" });
    this.decision = h("section", { class: "panel", "aria-labelledby": "decide-title" });
    this.facts = h("section", { class: "panel", "aria-label": "About the run" });
    this.callPlace = h("div", {});
    this.changed = null;
    this.badges = h("p", { class: "origin" });
    this.error = h("p", { class: "problem", role: "alert" });
    main.append(
      h("p", { class: "small" }, h("a", { href: `${root}/console` }, "← Inbox")),
      h("h1", { class: "mono" }, visible(item.tool_name)),
      this.badges,
      this.status,
      h("div", { class: "grid two" }, h("div", {}, this.callPlace, this.decision), h("div", {}, this.conversation(), this.facts, this.earlier())),
    );
    this.drawForm();
    this.showFacts();
    this.showStatus();
  }

  call() {
    const { item } = this;
    return h(
      "section",
      { class: "panel", "aria-labelledby": "call-title" },
      h("h2", { id: "call-title" }, item.kind === "question" ? "Question" : "The call"),
      item.tool_description && prose(item.tool_description, "prose muted"),
      argumentList(item),
      item.reason && [h("h3", {}, "Why it asks"), prose(item.reason)],
    );
  }

  conversation() {
    const { messages } = this.item;
    return h(
      "section",
      { class: "panel", "aria-labelledby": "conversation-title" },
      h("h2", { id: "conversation-title" }, "What led here"),
      messages.length === 0 && h("p", { class: "muted" }, "No messages."),
      h("ol", { class: "plain messages" }, messages.map((message) =>
        h("li", { class: message.role === "user" ? "message theirs" : "message" },
          h("p", { class: "small muted" }, message.role === "user" ? "user" : "agent", " · ", when(message.at)), prose(message.text)))),
    );
  }

  earlier() {
    const { earlier } = this.item;
    if (!earlier?.length) return null;
    return h(
      "section",
      { class: "panel", "aria-labelledby": "earlier-title" },
      h("h2", { id: "earlier-title" }, "Earlier decisions on this tool"),
      h("ul", { class: "plain earlier" }, earlier.map((each) =>
        h("li", {}, h("a", { href: requestPath(each.requirement_id) }, h("code", {}, callText(this.item.tool_name, each.arguments, 90))), h("p", { class: "small" }, decisionText(each))))),
    );
  }

  showFacts() {
    const { item } = this;
    const votes = item.votes.map((vote) => h("li", {}, decisionText({ ...vote, decision: "approve" })));
    fill(this.callPlace, this.call());
    fill(
      this.badges,
      h("span", {}, originOf(item)), badgesOf(item),
    );
    fill(
      this.facts,
      h("h2", {}, "Run"),
      h("dl", { class: "facts" },
        h("dt", {}, "Run"), h("dd", {}, h("a", { href: runPath(item.run_id) }, item.run_id.slice(0, 8))),
        h("dt", {}, "Agent"), h("dd", {}, h("bdi", {}, item.agent_id)),
        h("dt", {}, "Session"), h("dd", {}, h("bdi", {}, item.session_id)),
        item.approvers.length > 0 && [h("dt", {}, "Decided by"), h("dd", {}, item.approvers.join(", "))],
        item.quorum > 1 && [h("dt", {}, "Votes"), h("dd", {}, `${item.votes.length} of ${item.quorum}`, votes.length > 0 && h("ul", { class: "plain" }, votes))],
      ),
    );
  }

  showStatus(...late) {
    const { item } = this;
    const alerts = [];
    if (late.length) alerts.push(h("div", { class: "alert warn" }, h("p", {}, late)));
    else if (item.decision) alerts.push(h("div", { class: "alert good" }, h("p", {}, decisionText(item.decision))));
    else if (item.status === "expired") alerts.push(h("div", { class: "alert warn" }, h("p", {}, "The time to answer is over.")));
    else if (item.status === "cancelled") alerts.push(h("div", { class: "alert warn" }, h("p", {}, "The run was cancelled.")));
    if (item.status === "open" && item.in_doubt) {
      alerts.push(h("div", { class: "alert bad" },
        h("p", {}, h("strong", {}, "In doubt: this call may already have run."), " The server stopped before the end of it was recorded. Look at what it changes before you say yes."),
        item.explanation && h("p", { class: "small", dir: "auto" }, item.explanation)));
    } else if (item.status === "open" && item.explanation) {
      alerts.push(h("div", { class: "alert warn" }, prose(item.explanation)));
    }
    fill(this.status, alerts);
  }

  // ------------------------------------------------------------------------------ deciding

  drawForm() {
    const { item } = this;
    if (item.status !== "open") {
      this.showClosed();
      return;
    }
    const title = h("h2", { id: "decide-title" }, TITLES[item.kind]);
    if (!item.may_decide) {
      fill(this.decision, title, h("p", {}, item.why_not ?? "Others decide this."));
      return;
    }
    this.form = item.form ? formOf(item.form) : null;
    this.changes = h("div", { class: "changes", "aria-live": "polite" });
    this.remember = rememberField(item.remember);
    this.note = h("textarea", { id: "note", rows: 2 });
    const yes = h("button", { type: "submit", class: item.in_doubt ? "bad strong" : "good", "aria-keyshortcuts": "a" }, item.in_doubt ? "Run it again…" : LABELS[item.kind]);
    const no = item.kind !== "question" && h("button", { type: "button", class: "bad", "aria-keyshortcuts": "r", on: { click: () => this.send("reject") } }, "Reject");
    this.buttons = [yes, no].filter(Boolean);
    const element = h(
      "form",
      { novalidate: true, on: { submit: (event) => { event.preventDefault(); this.send(yesOf(item)); }, input: () => this.showChanges(), change: () => this.showChanges() } },
      this.form?.element,
      this.resultField(),
      this.changes,
      item.kind !== "question" && h("div", { class: "field" }, h("label", { for: "note" }, "Note ", h("span", { class: "muted" }, "optional; the agent reads it when you reject")), this.note),
      this.remember?.element,
      this.error,
      h("div", { class: "buttons" }, this.buttons),
    );
    fill(this.decision, title, element);
  }

  resultField() {
    const { kind } = this.item;
    if (kind !== "external_execution" && kind !== "question") return null;
    const isResult = kind === "external_execution";
    this.words = h("textarea", { id: "words", rows: isResult ? 8 : 3, class: isResult ? "mono" : null, "aria-required": "true", "aria-describedby": "words-help" });
    return h("div", { class: "field" }, h("label", { for: "words" }, isResult ? "Result" : "Your answer"), this.words,
      h("p", { class: "help", id: "words-help" }, isResult ? "What the agent reads as the result of the call, as text or JSON." : "In your own words."));
  }

  edited(values) {
    const editable = this.item.form.editable.filter((name) => name in values);
    return Object.fromEntries(editable.map((name) => [name, values[name]]));
  }

  showChanges() {
    if (!this.form) return;
    const values = this.form.read({ shows: false });
    const diff = values && diffOf(this.item.arguments, this.edited(values));
    fill(this.changes, diff && [h("h3", {}, "You change the call"), diff]);
  }

  body(verb) {
    const body = { decision: verb };
    if (this.note.value.trim()) body.note = this.note.value.trim();
    if (verb === "reject") return body;
    if (this.form) {
      const values = this.form.read();
      if (values === null) return null;
      const edited = this.edited(values);
      const changed = changedNames(this.item.arguments, edited);
      const filledIn = Object.entries(values).filter(([name]) => !(name in edited));
      if (filledIn.length) body.values = Object.fromEntries(filledIn);
      if (changed.length) body.arguments = Object.fromEntries(changed.map((name) => [name, edited[name]]));
    }
    if (this.words) {
      if (!this.words.value.trim()) {
        fill(this.error, this.item.kind === "question" ? "Write an answer." : "Write the result.");
        this.words.focus();
        return null;
      }
      if (this.item.kind === "question") body.answer = this.words.value;
      else body.result = this.words.value;
    }
    try {
      const remember = this.remember?.read();
      if (remember) body.remember = remember;
    } catch (error) {
      fill(this.error, error.message);
      return null;
    }
    return body;
  }

  async send(verb) {
    if (!this.buttons || this.buttons.some((button) => button.disabled)) return;
    fill(this.error, "");
    const body = this.body(verb);
    if (body === null) return;
    const { item } = this;
    if (verb !== "reject" && item.in_doubt && !(await confirmDoubt(item, callText(item.tool_name, item.arguments, 4000)))) return;
    for (const button of this.buttons) button.disabled = true;
    try {
      const result = await decide(item, body, this.key);
      this.changed = body.arguments ? diffOf(item.arguments, body.arguments) : null;
      if (result.lost) this.showLost(result.lost);
      else this.showResult(result);
    } catch (error) {
      fill(this.error, error.status === 0 ? `${error.message} What you wrote is still here: send it again.` : error.message);
      for (const button of this.buttons) button.disabled = false;
      // What was refused has done nothing: what is sent next is another request.
      if (error.status !== 0) this.key = newKey();
    }
  }

  showLost(decision) {
    this.changed = null;
    this.item = { ...this.item, status: "decided", decision };
    this.showStatus(decisionText(decision), " — you were not first. Your decision was not recorded.");
    this.showClosed();
    announce(this.status.innerText);
  }

  showResult({ requirement, run }) {
    this.item = { ...this.item, ...requirement, messages: this.item.messages, earlier: this.item.earlier, run_status: run.status };
    this.showStatus();
    this.showFacts();
    if (this.item.status === "open") {
      this.buttons = null;
      fill(this.decision, h("h2", { id: "decide-title" }, "Your vote counts"), h("p", {}, `${this.item.votes.length} of ${this.item.quorum} have approved. It waits for others now.`), this.next());
    } else {
      this.showClosed();
    }
    announce(this.decision.innerText);
    this.decision.querySelector("a")?.focus();
  }

  showClosed() {
    this.buttons = null;
    fill(
      this.decision,
      h("h2", { id: "decide-title" }, this.item.status === "decided" ? "Decided" : "Closed"),
      this.changed && [h("h3", {}, "You changed the call"), this.changed],
      h("p", { id: "run-status" }, this.item.run_status ? runText(this.item.run_status) : "", " ", h("a", { href: runPath(this.item.run_id) }, "See the run")),
      this.next(),
    );
  }

  next() {
    const place = h("p", {});
    api.get("/inbox", { limit: 1, ...acting() }).then(({ data: [item] }) => {
      fill(place, item && item.requirement_id !== this.item.requirement_id
        ? ["Next: ", h("a", { href: requestPath(item.requirement_id), id: "next" }, h("code", {}, callText(item.tool_name, item.arguments, 90)))]
        : ["Nothing else waits for you. ", h("a", { href: `${root}/console` }, "Inbox")]);
    }).catch(() => {});
    return place;
  }

  // ------------------------------------------------------------------------------ live

  onEvent({ event, data }) {
    if (event === "inbox.changed" && this.item.status === "open") this.refresh();
    if (data.requirement_id !== this.item.requirement_id || this.item.status !== "open") return;
    const isMine = this.buttons?.some((button) => button.disabled);
    if (event === "requirement.updated") {
      this.item = { ...this.item, votes: data.votes };
      this.showFacts();
    } else if (event !== "requirement.added" && !isMine) {
      this.refresh();
    }
  }

  async refresh() {
    const item = await api.get(`/inbox/${encodeURIComponent(this.item.requirement_id)}`, acting()).catch((error) => {
      if (error.status === 404) fill(this.main, problem(error));
      return null;
    });
    if (!item || this.buttons?.some((button) => button.disabled)) return;
    const wasOpen = this.item.status === "open";
    this.item = item;
    this.showFacts();
    if (item.status !== "open" && wasOpen) {
      this.showStatus(...(item.decision ? [decisionText(item.decision)] : []));
      this.showClosed();
      announce(this.status.innerText);
    }
  }
}

start(async ({ main, id }) => {
  const item = await api.get(`/inbox/${encodeURIComponent(id)}`, acting());
  document.title = `${visible(item.tool_name)} · Unpause`;
  const page = new RequestPage(main, item);
  addKeys({
    a: ["Approve, or send the answer", () => page.send(yesOf(item))],
    r: ["Reject", () => page.send("reject")],
    n: ["Write a note", () => byId("note")?.focus()],
    j: ["Next request", () => byId("next")?.click()],
    i: ["Back to the inbox", () => location.assign(`${root}/console`)],
  });
  let wasAway = false;
  follow(`/inbox/events?${new URLSearchParams(acting())}`, {
    onEvent: (event) => page.onEvent(event),
    onState: (state) => {
      showConnection(state);
      if (state === "live" && wasAway) page.refresh();
      wasAway = state === "reconnecting";
    },
  });
});
