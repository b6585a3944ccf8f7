// One run: what happened, where its time went, its error, and what can be done about it. Live while it goes on.

import { api, root } from "./api.js";
import { announce, fill, h, prose } from "./dom.js";
import { fullTime, when } from "./format.js";
import { addKeys } from "./keys.js";
import { follow } from "./live.js";
import { requestPath, sessionPath } from "./paths.js";
import { isFinal, statusBadge, statusWord } from "./run-row.js";
import { showConnection, start } from "./shell.js";
import { timeBar } from "./time-bar.js";
import { entryItem } from "./timeline.js";

// Events come in bursts: they are read together.
const READ_AFTER = 200;
const ENDS = new Set(["RunCompleted", "RunError", "RunCancelled"]);

class RunPage {
  constructor(main, id) {
    this.path = `/runs/${encodeURIComponent(id)}`;
    this.runId = id;
    this.status = null;
    this.text = "";
    this.head = h("header", { class: "run-head" });
    this.notes = h("div");
    this.time = h("section", { class: "panel", "aria-labelledby": "time-title", hidden: true });
    this.list = h("ol", { class: "timeline plain", "aria-label": "What happened" });
    this.live = h("div", { class: "entry live", hidden: true });
    this.side = h("aside", { "aria-label": "About this run" });
    this.result = h("div");
    main.append(this.head, this.notes, h("div", { class: "grid two" },
      h("div", {}, this.result, this.time, h("section", { class: "panel", "aria-labelledby": "timeline-title" }, h("h2", { id: "timeline-title" }, "Timeline"), this.list, this.live)),
      this.side));
  }

  async read() {
    const [run, timeline] = await Promise.all([api.get(this.path), api.get(`${this.path}/timeline`)]);
    const changed = this.status !== null && this.status !== run.status;
    this.status = run.status;
    this.run = run;
    this.show(run, timeline);
    if (changed) announce(`The run is ${statusWord(run.status)}`);
    return Math.min(run.last_event_id, timeline.last_event_id);
  }

  show(run, timeline) {
    document.title = `${statusWord(run.status)}: ${run.prompt.slice(0, 60)} · Unpause`;
    const line = run.prompt.trim().split("\n")[0];
    const hadFocus = this.head.contains(document.activeElement) ? document.activeElement.dataset.verb : null;
    fill(this.head, h("div", {}, h("h1", { dir: "auto" }, line.length > 160 ? `${line.slice(0, 160)}…` : line || "Run"),
      h("p", { class: "origin" }, statusBadge(run.status), h("bdi", {}, run.agent_id), run.user_id && h("span", {}, "by ", h("bdi", {}, run.user_id)), h("span", {}, "started ", when(run.created_at)))),
    this.buttons(run));
    if (hadFocus) (this.head.querySelector(`[data-verb="${hadFocus}"]`) ?? document.getElementById("main")).focus();
    this.showNotes(run);
    this.showResult(run);
    const picture = timeBar(timeline);
    this.time.hidden = !picture;
    fill(this.time, h("h2", { id: "time-title" }, "Where the time went"), picture);
    this.showTimeline(timeline);
    this.showSide(run);
  }

  showTimeline(timeline) {
    const open = new Set([...this.list.children].flatMap((item, number) => (item.querySelector("details[open]") ? [number] : [])));
    const last = timeline.data.length - 1;
    const items = timeline.data.map((entry, number) => entryItem(entry, { runId: this.runId, isLast: number === last || !isFinal(timeline.status) }));
    for (const number of open) items[number]?.querySelectorAll("details").forEach((details) => { details.open = true; });
    // What is as it was stays: the focus and a selection are not lost while others come.
    items.forEach((item, number) => {
      const old = this.list.children[number];
      if (!old) this.list.append(item);
      else if (!old.isEqualNode(item)) old.replaceWith(item);
    });
    while (this.list.children.length > items.length) this.list.lastElementChild.remove();
    if (timeline.truncated) this.list.append(h("li", { class: "entry" }, h("p", { class: "muted" }, "The rest of this run is too long to be shown.")));
  }

  showNotes(run) {
    const open = run.requirements.filter((each) => each.decision === null);
    const count = open.length;
    fill(this.notes,
      run.status === "PAUSED" && count > 0 && h("div", { class: "alert warn" }, h("p", {},
        count === 1 ? "The run waits for a decision: " : `The run waits for ${count} decisions: `,
        open.map((each, number) => [number > 0 && ", ", h("a", { href: requestPath(each.requirement_id) }, h("code", {}, each.tool_name))]))),
      run.status === "PAUSED" && count === 0 && this.resumeForm(),
      run.error && run.status === "ERROR" && h("div", { class: "alert bad" }, h("p", {}, h("strong", {}, "The run failed"), run.error.reason && ` (${run.error.reason.replaceAll("_", " ")})`), prose(run.error.message),
        run.error.traceback && h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, run.error.traceback))),
      run.error && run.status === "CANCELLED" && h("div", { class: "alert" }, prose(run.error.message)));
  }

  resumeForm() {
    // What is being typed stays.
    if (this.resuming) return this.resuming;
    const prompt = h("textarea", { id: "resume-prompt", name: "prompt" });
    this.resuming = h("form", { class: "panel", on: { submit: (event) => { event.preventDefault(); this.act("resume", prompt.value.trim() ? { prompt: prompt.value } : {}); } } },
      h("h2", {}, "Paused on request"),
      h("div", { class: "field" }, h("label", { for: "resume-prompt" }, "Anything to tell the model"), prompt),
      h("button", { class: "primary" }, "Resume"));
    return this.resuming;
  }

  showResult(run) {
    const isObject = typeof run.output === "object" && run.output !== null;
    const shown = isObject ? h("pre", { tabindex: "0" }, JSON.stringify(run.output, null, 2)) : run.output && prose(run.output);
    fill(this.result, shown && h("section", { class: "panel", "aria-labelledby": "result-title" }, h("h2", { id: "result-title" }, "Result"), shown));
  }

  showSide(run) {
    const facts = [
      ["Status", statusWord(run.status)],
      ["Agent", h("bdi", {}, run.agent_id)],
      ["Model", run.model && h("bdi", {}, run.model)],
      ["Session", h("a", { href: sessionPath(run.session_id) }, run.session_id)],
      ["Run", h("code", {}, run.run_id)],
      ["Number", String(run.number)],
      ["Created", fullTime(run.created_at)],
      ["Ended", run.ended_at && fullTime(run.ended_at)],
      ["Segments", String(run.segments.length)],
      ...Object.entries(run.usage ?? {}).map(([name, count]) => [name.replaceAll("_", " "), count.toLocaleString()]),
    ].filter(([, value]) => value);
    fill(this.side,
      h("section", { class: "panel" }, h("h2", {}, "About this run"), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
      run.prompt.length > 160 && h("section", { class: "panel" }, h("h2", {}, "Prompt"), h("div", { class: "scrolls", tabindex: "0" }, prose(run.prompt))),
      run.metadata && h("section", { class: "panel" }, h("h2", {}, "Metadata"), h("pre", { tabindex: "0" }, JSON.stringify(run.metadata, null, 2))),
      run.audit?.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Audit trail"), h("ul", { class: "plain audit" }, run.audit.map((entry) =>
        h("li", {}, h("strong", {}, h("bdi", {}, entry.actor ?? "somebody")), ` ${entry.action}${entry.decision ? `: ${entry.decision}` : ""} `, h("span", { class: "muted" }, when(entry.at), ` · ${entry.via}`))))));
  }

  buttons(run) {
    if (isFinal(run.status)) return null;
    const button = (verb, text, className, action) => h("button", { type: "button", class: className, data: { verb }, on: { click: action } }, text);
    return h("div", { class: "buttons" },
      run.status !== "PAUSED" && button("pause", "Pause", "", () => this.act("pause")),
      button("cancel", "Cancel the run…", "bad", () => this.confirmCancel()));
  }

  confirmCancel() {
    const dialog = h("dialog", { "aria-labelledby": "cancel-title", on: { close: () => { if (dialog.returnValue === "yes") this.act("cancel"); dialog.remove(); } } },
      h("h2", { id: "cancel-title" }, "Cancel this run?"),
      h("p", {}, "It ends for good. What its tools have done stays done, and a call that is running is not undone."),
      h("form", { method: "dialog", class: "buttons" }, h("button", { value: "no" }, "Keep it"), h("button", { value: "yes", class: "bad strong" }, "Cancel the run")));
    document.body.append(dialog);
    dialog.showModal();
  }

  async act(verb, body) {
    try {
      await (verb === "resume" ? api.change(`${this.path}/${verb}`, body) : api.post(`${this.path}/${verb}`));
      this.resuming = null;
      await this.read();
      this.watch();
    } catch (error) {
      fill(this.notes, h("div", { class: "alert bad", role: "alert" }, h("p", {}, error.message)));
    }
  }

  /** Follow the run from the event that was read last; read what changed when something happens. */
  watch(after = this.run.last_event_id) {
    if (isFinal(this.status)) {
      this.stream?.close();
      showConnection("ended");
      return;
    }
    if (this.stream) return;
    let timer = null;
    const readSoon = () => {
      timer ??= setTimeout(async () => {
        timer = null;
        await this.read().catch(() => {});
        if (isFinal(this.status)) showConnection("ended");
      }, READ_AFTER);
    };
    this.stream = follow(`/agents/${encodeURIComponent(this.run.agent_id)}/runs/${encodeURIComponent(this.runId)}/events?follow=true`, {
      lastId: String(after),
      endsWhen: ({ event }) => ENDS.has(event),
      onState: (state) => {
        showConnection(state);
        if (state === "live") readSoon();
      },
      onEvent: ({ event, data }) => {
        if (event === "RunContent") this.write(data.content);
        else {
          if (event === "ModelRequestStarted" || event === "ModelRequestCompleted" || ENDS.has(event)) this.write(null);
          readSoon();
        }
      },
    });
  }

  /** Show what the model writes at this moment; null once it is among the entries. */
  write(piece) {
    this.text = piece === null ? "" : this.text + (typeof piece === "string" ? piece : "");
    this.live.hidden = !this.text;
    fill(this.live, this.text && prose(this.text));
  }
}

start(async ({ main, id }) => {
  const page = new RunPage(main, id);
  const after = await page.read();
  page.watch(after);
  addKeys({
    c: ["Cancel the run", () => page.head.querySelector("[data-verb=cancel]")?.click()],
    p: ["Pause the run", () => page.head.querySelector("[data-verb=pause]")?.click()],
    b: ["Back to the runs", () => location.assign(`${root}/console/runs`)],
  });
});
