// Calls and times as people read them.

import { h, visible } from "./dom.js";

const LONGEST_CALL = 160;

/** Return a value as one line; every character of it is visible. */
export function valueText(value) {
  return visible(typeof value === "string" ? JSON.stringify(value) : (JSON.stringify(value) ?? "null"));
}

/** Return a call as one line: `restart(service="nginx")`, cut where it is long. */
export function callText(name, args, longest = LONGEST_CALL) {
  const inside = Object.entries(args ?? {}).map(([key, value]) => `${visible(key)}=${valueText(value)}`);
  const text = `${visible(name)}(${inside.join(", ")})`;
  return text.length > longest ? `${text.slice(0, longest)}…` : text;
}

const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** Return a length of time with its largest unit: `3 min`. */
export function duration(seconds) {
  const length = Math.max(0, seconds);
  for (const [size, name] of UNITS) if (length >= size) return `${Math.floor(length / size)} ${name}`;
  return "0 s";
}

/** Return a time in full, in the reader's own zone. */
export const fullTime = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

function relative(iso) {
  const seconds = (Date.now() - new Date(iso).getTime()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

/** Return a time as how long ago or how soon it is; it stays right while the page is open. */
export function when(iso) {
  if (!iso) return null;
  return h("time", { datetime: iso, title: fullTime(iso), data: { relative: "" } }, relative(iso));
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const text = relative(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);
