// Where the time of a run went, as a picture and in numbers.

import { h } from "./dom.js";

const KINDS = [
  ["queued", "queued"],
  ["model", "model"],
  ["tools", "tools"],
  ["waiting", "waiting for people"],
  ["other", "other"],
];
const WIDTH = 1000;
// A span narrower than this could not be seen.
const NARROWEST = 2;
const SMALL_SHARE = 0.25;

/** Return seconds as people read them: `3.2 s`, `4 min 10 s`, `2 h 5 min`. */
export function seconds(length) {
  if (length < 0.0005) return "0 s";
  if (length < 1) return `${Math.max(1, Math.round(length * 1000))} ms`;
  if (length < 60) return `${length.toFixed(length < 10 ? 1 : 0)} s`;
  const whole = Math.round(length);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

function share(part) {
  return part > 0 && part < 0.01 ? "< 1 %" : `${Math.round(100 * part)} %`;
}

function bar(spans, label) {
  const total = spans.reduce((sum, span) => sum + span.seconds, 0);
  let at = 0;
  const parts = spans.map((span) => {
    const x = (at / total) * WIDTH;
    at += span.seconds;
    const title = `${KINDS.find(([kind]) => kind === span.kind)[1]}: ${seconds(span.seconds)}`;
    return h("rect", { x, y: 0, width: Math.max(NARROWEST, (span.seconds / total) * WIDTH), height: 28, class: `span-${span.kind}` }, h("title", { svg: true }, title));
  });
  return h("svg", { class: "bar", viewBox: `0 0 ${WIDTH} 28`, preserveAspectRatio: "none", role: "img", "aria-label": label }, parts);
}

function describe(totals) {
  return KINDS.filter(([kind]) => totals[kind] > 0).map(([kind, title]) => `${title} ${seconds(totals[kind])}`).join(", ");
}

/** Return the picture of a timeline; null where no time has passed yet. */
export function timeBar({ spans, totals }) {
  const total = spans.reduce((sum, span) => sum + span.seconds, 0);
  if (total <= 0) return null;
  const work = spans.filter((span) => span.kind !== "waiting");
  const atWork = total - totals.waiting;
  const legend = KINDS.filter(([kind]) => totals[kind] > 0).map(([kind, title]) =>
    h("div", {}, h("dt", {}, h("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, h("rect", { width: 10, height: 10, rx: 2, class: `span-${kind}` })), title), h("dd", {}, seconds(totals[kind]), h("span", { class: "muted" }, ` ${share(totals[kind] / total)}`))));
  return [
    bar(spans, `Where the time went: ${describe(totals)}`),
    // People take so long that nothing else could be seen beside them.
    atWork > 0 && totals.waiting > 0 && atWork / total < SMALL_SHARE && [
      h("p", { class: "small muted bar-title" }, `Without waiting for people: ${seconds(atWork)}`),
      bar(work, `Without waiting: ${describe({ ...totals, waiting: 0 })}`),
    ],
    h("dl", { class: "legend" }, legend),
  ];
}
