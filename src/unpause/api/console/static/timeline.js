// The entries of a run's timeline.

import { root } from "./api.js";
import { h, prose, visible } from "./dom.js";
import { callText, fullTime, valueText, when } from "./format.js";
import { requestPath } from "./paths.js";
import { statusBadge } from "./run-row.js";
import { seconds } from "./time-bar.js";

const LONG = 600;
const DECISIONS = { confirmed: "approved", rejected: "rejected", answered: "answered" };
const VIAS = { expiry: "at the time limit", agent: "the agent itself", grant: "as remembered" };

const person = (name, other = "somebody") => (name ? h("bdi", {}, name) : other);

/** Return a text as prose; a long one is folded. */
function foldable(text, className = "prose") {
  if (text.length <= LONG) return prose(text, className);
  return h("details", {}, h("summary", {}, `${text.slice(0, 120).trim()}…`), prose(text, className));
}

function call(entry) {
  const text = callText(entry.tool_name, entry.arguments);
  const whole = Object.entries(entry.arguments ?? {});
  if (!text.endsWith("…")) return h("code", {}, text);
  return h("details", {}, h("summary", {}, h("code", {}, text)), h("dl", { class: "facts" }, whole.map(([name, value]) => [h("dt", {}, visible(name)), h("dd", {}, h("code", {}, valueText(value)))])));
}

function images(entry, runId) {
  if (!entry.images) return null;
  const path = (number) => `${root}/runs/${encodeURIComponent(runId)}/images/${entry.prompt}/${number}`;
  return h("p", { class: "images" }, Array.from({ length: entry.images }, (_, number) =>
    h("a", { href: path(number), target: "_blank", rel: "noreferrer" }, h("img", { src: path(number), alt: `Image ${number + 1} of this message`, loading: "lazy" }))));
}

function tokens(entry) {
  const counts = [[entry.input_tokens, "in"], [entry.output_tokens, "out"]].filter(([count]) => count);
  return counts.length ? h("span", { class: "muted" }, ` · ${counts.map(([count, word]) => `${count.toLocaleString()} ${word}`).join(", ")} tokens`) : null;
}

const OUTCOMES = { failed: "bad", retried: "warn", denied: "warn" };

const WRITERS = {
  message: (entry, { runId }) => [
    h("p", {}, h("strong", {}, entry.role === "user" ? person(entry.by, "User") : "Model"), entry.role === "user" ? " wrote" : " said"),
    entry.text && foldable(entry.text),
    images(entry, runId),
  ],
  model: (entry) => [h("p", {}, "Model request", entry.model && [" to ", h("code", {}, entry.model)], tokens(entry))],
  tool: (entry) => [
    h("div", {}, call(entry), entry.outcome && entry.outcome !== "success" && [" ", h("span", { class: `badge ${OUTCOMES[entry.outcome] ?? ""}` }, entry.outcome)]),
    entry.text && foldable(entry.text, "prose mono result"),
  ],
  pause: (entry) => [
    h("p", {}, entry.requirements.length ? "Paused for people" : "Paused on request"),
    h("ul", { class: "plain" }, entry.requirements.map((each) => h("li", {},
      h("a", { class: "call", href: requestPath(each.requirement_id) }, h("code", {}, callText(each.tool_name, each.arguments))),
      each.in_doubt && [" ", h("span", { class: "badge bad" }, "in doubt")],
      each.is_open && [" ", h("span", { class: "badge warn" }, "open")]))),
  ],
  vote: (entry) => [h("p", {}, h("strong", {}, person(entry.by)), " confirmed ", h("code", {}, entry.tool_name), ", others have to, too"), note(entry)],
  decision: (entry) => [
    h("p", {}, h("strong", {}, person(entry.by, VIAS[entry.via] ?? "Somebody")), ` ${DECISIONS[entry.decision] ?? entry.decision} `,
      h("a", { href: requestPath(entry.requirement_id) }, h("code", {}, entry.tool_name)),
      h("span", { class: "muted" }, entry.by && VIAS[entry.via] ? ` ${VIAS[entry.via]}` : "")),
    entry.values && h("p", {}, h("code", {}, callText("with", entry.values))),
    entry.text && foldable(entry.text),
    note(entry),
  ],
  reminder: () => [h("p", {}, "Reminder: nobody has decided yet")],
  continue: (entry) => [h("p", {}, "Continued by ", person(entry.by))],
  // Its text stands above the timeline: the result, or the error.
  end: (entry) => [h("p", {}, statusBadge(entry.status), entry.by && [" by ", person(entry.by)])],
};

function note(entry) {
  return entry.note && h("p", {}, h("q", { dir: "auto" }, entry.note));
}

/** Return an entry as an item of the list. */
export function entryItem(entry, context) {
  const write = WRITERS[entry.kind] ?? (() => [h("p", {}, entry.kind)]);
  const goesOn = entry.seconds === null && ["model", "tool", "pause"].includes(entry.kind) && context.isLast;
  return h(
    "li",
    { class: `entry entry-${entry.kind}${entry.outcome === "failed" ? " failed" : ""}` },
    h("time", { class: "at", datetime: entry.at, title: fullTime(entry.at) }, new Date(entry.at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" })),
    h("div", { class: "body" }, write(entry, context)),
    h("span", { class: "took" }, entry.seconds !== null ? seconds(entry.seconds) : goesOn && ["since ", when(entry.at)]),
  );
}
