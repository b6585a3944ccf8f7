// What a person changes about a call: each changed argument, with what was taken out and what was put in.

import { h, visible } from "./dom.js";

// Longer ones are shown whole: the comparison takes the square of the pieces.
const MAX_PIECES = 1200;

const textOf = (value) => visible(typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "nothing");
const pieces = (text) => text.match(/\s+|[^\s\w]|\w+/g) ?? [];

/** Return the pieces of both, each as kept, removed or added: the longest common subsequence is what is kept. */
export function compare(before, after) {
  const [old, now] = [pieces(before), pieces(after)];
  if (old.length * now.length > MAX_PIECES ** 2) return [["removed", before], ["added", after]];
  const lengths = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = old[i] === now[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const found = [];
  const add = (kind, text) => {
    const last = found.at(-1);
    if (last?.[0] === kind) last[1] += text;
    else found.push([kind, text]);
  };
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      add("kept", old[i]);
      i += 1;
      j += 1;
    } else if (i < old.length && (j === now.length || lengths[i + 1][j] >= lengths[i][j + 1])) {
      add("removed", old[i]);
      i += 1;
    } else {
      add("added", now[j]);
      j += 1;
    }
  }
  return found;
}

/** Return the names whose values differ. */
export const changedNames = (before, after) => Object.keys(after).filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));

const NODES = { kept: (text) => text, removed: (text) => h("del", {}, text), added: (text) => h("ins", {}, text) };

/** Return the changes as a list; null where there are none. */
export function diffOf(before, after) {
  const names = changedNames(before, after);
  if (names.length === 0) return null;
  return h(
    "dl",
    { class: "diff facts" },
    names.map((name) => [
      h("dt", {}, h("code", {}, visible(name))),
      h("dd", {}, h("pre", { dir: "auto" }, compare(name in before ? textOf(before[name]) : "", textOf(after[name])).map(([kind, text]) => NODES[kind](text)))),
    ]),
  );
}
