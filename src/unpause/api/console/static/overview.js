// The overview: what waits, what runs, how long decisions take, who executes, and what fails.

import { api, root } from "./api.js";
import { fill, h } from "./dom.js";
import { duration, when } from "./format.js";
import { requestPath } from "./paths.js";
import { STATUSES, statusWord } from "./run-row.js";
import { start } from "./shell.js";
import { problem } from "./states.js";
import { seconds } from "./time-bar.js";

// While the page is seen: the server reads it once a second at most, for all who look.
const READ_EVERY = 10_000;
const HEIGHT = 100;
const TONES = { PAUSED: "warn", ERROR: "bad" };

const tile = (value, text, { href = null, tone = "" } = {}) =>
  h("li", {}, h(href ? "a" : "div", { class: `tile ${tone}`, href }, h("strong", {}, value), h("span", {}, text)));

function tiles(view) {
  const counts = STATUSES.map((status) =>
    tile(view.runs[status].toLocaleString(), `${statusWord(status)}${["COMPLETED", "ERROR", "CANCELLED"].includes(status) ? ", last 24 h" : ""}`,
      { href: `${root}/console/runs?status=${status}`, tone: view.runs[status] ? (TONES[status] ?? "") : "" }));
  const oldest = view.oldest_waiting;
  return [
    h("ul", { class: "tiles" }, counts),
    h("ul", { class: "tiles" },
      tile(oldest ? duration(oldest.seconds) : "–", oldest ? `the oldest waits: ${oldest.tool_name}` : "nothing waits",
        { href: oldest && requestPath(oldest.requirement_id), tone: oldest?.seconds > 3600 ? "warn" : "" }),
      tile(view.waiting.p50 === null ? "–" : seconds(view.waiting.p50), "until a decision, half of them"),
      tile(view.waiting.p95 === null ? "–" : seconds(view.waiting.p95), "until a decision, 95 %"),
      tile(view.decided_today.toLocaleString(), "decided today (UTC)")),
  ];
}

/** Return a plot of bars, one an hour; each of the `layers` is a class and what it counts, stacked upwards. */
function plot(title, series, layers) {
  const most = Math.max(...series.map((hour) => layers.reduce((sum, [, count]) => sum + count(hour), 0)));
  const bars = series.map((hour, number) => {
    let base = HEIGHT;
    return layers.map(([name, count, word]) => {
      const value = count(hour);
      if (!value) return null;
      const height = (value / most) * HEIGHT;
      base -= height;
      const from = new Date(hour.at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
      return h("rect", { x: number * 10 + 1, y: base, width: 8, height, class: name }, h("title", { svg: true }, `${from}: ${value} ${word}`));
    });
  });
  const totals = layers.map(([, count, word]) => `${series.reduce((sum, hour) => sum + count(hour), 0).toLocaleString()} ${word}`).join(", ");
  const label = (hour) => new Date(hour.at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  return h("section", { class: "panel" },
    h("h2", {}, title),
    h("p", { class: "small muted" }, most ? `${totals}; at most ${most.toLocaleString()} in an hour` : "Nothing in the last 24 hours"),
    h("svg", { class: "plot", viewBox: `0 0 ${series.length * 10} ${HEIGHT + 1}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${totals}` },
      bars, h("line", { x1: 0, y1: HEIGHT + 0.5, x2: series.length * 10, y2: HEIGHT + 0.5, class: "base" })),
    h("p", { class: "plot-axis", "aria-hidden": "true" }, h("span", {}, label(series[0])), h("span", {}, "now")));
}

function table(title, head, rows, empty) {
  return h("section", { class: "panel" }, h("h2", {}, title),
    rows.length
      ? h("div", { class: "table", tabindex: "0", role: "region", "aria-label": title }, h("table", {}, h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))))))
      : h("p", { class: "muted" }, empty));
}

function workers(view) {
  if (!view.workers) return null;
  const rows = view.workers.map((worker) => [
    h("bdi", {}, worker.name), h("span", { class: `badge ${worker.alive ? "good" : "bad"}` }, worker.alive ? "alive" : "silent"),
    worker.version, worker.agents.join(", ") || "–", worker.running === null ? "–" : String(worker.running), when(worker.last_heartbeat), when(worker.started_at)]);
  return table("Workers", ["Process", "State", "Version", "Agents", "Running", "Heartbeat", "Started"], rows, "No process executes runs.");
}

function webhooks(view) {
  if (!view.webhooks) return null;
  const rows = view.webhooks.map((each) => [h("bdi", {}, each.server), String(each.retrying), String(each.given_up), each.last_error, when(each.last_at)]);
  return table("Failing webhooks", ["Server", "Retrying", "Given up", "Last error", "Message of"], rows, "All messages of the last day arrived.");
}

start(async ({ main }) => {
  const place = h("div");
  main.append(place);
  const show = (view) => {
    const scrolled = scrollY;
    const focused = place.contains(document.activeElement) ? [...place.querySelectorAll("a, [tabindex]")].indexOf(document.activeElement) : -1;
    fill(place, tiles(view), h("div", { class: "plots" },
      plot("Runs an hour", view.series, [
        ["completed", (hour) => hour.completed, "completed"],
        ["failed", (hour) => hour.failed, "failed"],
        ["created", (hour) => hour.created - hour.completed - hour.failed, "not ended or cancelled"]]),
      plot("Decisions an hour", view.series, [["decided", (hour) => hour.decided, "decided"]])), workers(view), webhooks(view));
    if (focused >= 0) place.querySelectorAll("a, [tabindex]")[focused]?.focus();
    scrollTo(scrollX, scrolled);
  };
  show(await api.get("/overview"));
  setInterval(() => {
    if (!document.hidden) api.get("/overview").then(show, (error) => error.status && fill(place, problem(error)));
  }, READ_EVERY);
});
