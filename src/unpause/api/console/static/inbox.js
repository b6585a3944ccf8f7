// The inbox: what waits, live, and decisions from the row.

import { acting } from "./acting.js";
import { ApiError, api, root } from "./api.js";
import { askNote, confirmDoubt, confirmMany, decide, decideAll, decisionText, isPlain, runText } from "./decide.js";
import { announce, fill, h } from "./dom.js";
import { callText } from "./format.js";
import { rowOf } from "./inbox-row.js";
import { addKeys } from "./keys.js";
import { follow } from "./live.js";
import { requestPath, runPath } from "./paths.js";
import { showConnection, start } from "./shell.js";
import { loading, notice, problem } from "./states.js";
import { starter } from "./starter.js";

const SOON = 3600;
const PAGE = 50;
const SHOWN_FOR = 20_000;

const TABS = [
  ["mine", "Waits for me", { who: "mine" }, (item) => item.may_decide],
  ["others", "Waits for others", { who: "others" }, (item) => !item.may_decide],
  ["doubt", "In doubt", { who: "all", in_doubt: true }, (item) => item.in_doubt],
  ["soon", "Expires soon", { who: "all", expires_within: SOON }, (item) => item.expires_at && new Date(item.expires_at) - Date.now() < SOON * 1000],
];
const FILTERS = [["agent_id", "Agent"], ["tool_name", "Tool"], ["user_id", "Started by"]];
const ITEM_KEYS = { agent_id: "agent_id", tool_name: "tool_name", user_id: "started_by" };

class Inbox {
  constructor(main, me) {
    this.myName = me.user_id ?? acting().acting_for ?? null;
    const address = new URLSearchParams(location.search);
    this.tab = TABS.find(([name]) => name === address.get("tab")) ?? TABS[0];
    this.filters = Object.fromEntries(FILTERS.map(([name]) => [name, address.get(name) ?? ""]));
    this.items = new Map();
    this.chosen = new Set();
    this.settled = new Set();
    this.next = null;
    this.isLoaded = false;
    this.list = h("ul", { class: "rows plain", "aria-label": this.tab[1] });
    this.below = h("div", { class: "below" });
    this.many = h("div", { class: "many buttons", hidden: true });
    main.append(this.tabs(), this.filterForm(), this.many, this.list, this.below);
  }

  address(tab, filters) {
    const query = new URLSearchParams();
    if (tab !== "mine") query.set("tab", tab);
    for (const [name, value] of Object.entries(filters)) if (value) query.set(name, value);
    return `${root}/console${query.size ? `?${query}` : ""}`;
  }

  tabs() {
    const links = TABS.map(([name, title]) =>
      h("li", {}, h("a", { href: this.address(name, this.filters), "aria-current": name === this.tab[0] ? "page" : null }, title)));
    return h("nav", { class: "tabs", "aria-label": "Which requests" }, h("ul", { class: "plain" }, links));
  }

  filterForm() {
    const inputs = FILTERS.map(([name, title]) =>
      h("div", {}, h("label", { for: name }, title), h("input", { id: name, name, value: this.filters[name], placeholder: "any", autocomplete: "off", spellcheck: "false" })));
    const form = h(
      "form",
      { class: "filters", role: "search", "aria-label": "Filter requests", on: { submit: (event) => { event.preventDefault(); apply(); }, change: () => apply() } },
      inputs,
      h("button", { type: "submit" }, "Filter"),
    );
    const apply = () => {
      const data = Object.fromEntries(FILTERS.map(([name]) => [name, form.elements[name].value.trim()]));
      if (JSON.stringify(data) !== JSON.stringify(this.filters)) location.assign(this.address(this.tab[0], data));
    };
    this.filterElement = form;
    return h("details", { class: "filtering", open: Object.values(this.filters).some(Boolean) }, h("summary", {}, "Filter"), form);
  }

  belongs(item) {
    const hasVoted = this.tab[0] === "mine" && item.votes.some((vote) => vote.by === this.myName);
    return !hasVoted && this.tab[3](item) && FILTERS.every(([name]) => !this.filters[name] || item[ITEM_KEYS[name]] === this.filters[name]);
  }

  async load({ more = false } = {}) {
    const query = { ...acting(), ...this.tab[2], ...this.filters, limit: PAGE, cursor: more ? this.next : null };
    const { data, next } = await api.get("/inbox", query);
    this.next = next;
    if (!more) {
      const present = new Set(data.map((item) => item.requirement_id));
      for (const id of [...this.items.keys()]) if (!present.has(id)) this.remove(id);
    }
    this.isLoaded = true;
    for (const item of data) this.put(item);
    this.showBelow();
  }

  showBelow() {
    const count = this.items.size;
    document.title = `${this.tab[0] === "mine" && count ? `(${count}${this.next ? "+" : ""}) ` : ""}Inbox · Unpause`;
    const isFiltered = Object.values(this.filters).some(Boolean);
    if (count || this.list.children.length) {
      const more = h("button", { type: "button", on: { click: () => this.load({ more: true }).catch((error) => fill(this.below, problem(error))) } }, "Show more");
      fill(this.below, this.next && more);
    } else if (isFiltered) {
      fill(this.below, notice("Nothing matches", "No request that waits has all of these.", h("a", { href: this.address(this.tab[0], {}) }, "Clear the filters")));
    } else if (this.tab[0] === "mine") {
      fill(this.below, notice("Nothing waits for you", "A request of an agent appears here by itself, as soon as one pauses."), starter());
    } else {
      fill(this.below, notice("Nothing here"));
    }
  }

  put(item) {
    const id = item.requirement_id;
    const isNew = !this.items.has(id);
    const old = this.rowElement(id);
    if (!isNew && old?.contains(document.activeElement) && JSON.stringify(this.items.get(id)) === JSON.stringify(item)) return;
    this.items.set(id, item);
    const row = rowOf(item, { act: (each, verb) => this.act([each], verb), choose: (each, is) => this.choose(each, is) });
    if (this.chosen.has(id)) row.querySelector("input").checked = true;
    if (old === null) {
      this.list.append(row);
      return;
    }
    const hadFocus = old.contains(document.activeElement);
    old.replaceWith(row);
    if (hadFocus) row.querySelector("a.call").focus();
  }

  rowElement(id) {
    return this.list.querySelector(`[data-id="${CSS.escape(id)}"]`);
  }

  remove(id) {
    this.items.delete(id);
    this.choose({ requirement_id: id }, false);
    const row = this.rowElement(id);
    if (row && !row.classList.contains("done")) row.remove();
  }

  /** Show the result of a request in its row, and remove the row a little later. */
  settle(id, kind, ...content) {
    const item = this.items.get(id);
    const row = this.rowElement(id);
    const shown = row?.querySelector(".outcome");
    if (!item && shown) {
      // The event was faster than the answer to one's own decision, which says more.
      shown.className = `origin outcome ${kind}`;
      fill(shown, h("span", {}, content));
      announce(row.innerText);
      return;
    }
    if (!item || !row) return;
    const following = this.neighbour(row, 1) ?? this.neighbour(row, -1);
    const hadFocus = row.contains(document.activeElement) || document.activeElement === document.body;
    this.items.delete(id);
    this.settled.add(id);
    this.choose(item, false);
    row.classList.add("done");
    fill(
      row,
      h("div", { class: "what" }, h("a", { class: "call", href: requestPath(id) }, h("code", {}, callText(item.tool_name, item.arguments))), h("p", { class: `origin outcome ${kind}` }, h("span", {}, content))),
    );
    announce(row.innerText);
    if (hadFocus) following?.querySelector("a.call").focus();
    const takeAway = () => {
      if (row.contains(document.activeElement)) {
        setTimeout(takeAway, SHOWN_FOR);
        return;
      }
      row.remove();
      this.showBelow();
    };
    setTimeout(takeAway, SHOWN_FOR);
    this.showBelow();
  }

  settleWith(item, result) {
    if (result.lost) {
      this.settle(item.requirement_id, "late", decisionText(result.lost), " — you were not first.");
    } else if (result.requirement.status === "open") {
      this.put(result.requirement);
      if (!this.belongs(result.requirement)) this.settle(item.requirement_id, "good", "Your vote counts. It waits for others now.");
      else announce("Your vote counts. It waits for others now.");
    } else {
      const run = result.run && [runText(result.run.status), " ", h("a", { href: runPath(result.run.run_id) }, "See the run")];
      this.settle(item.requirement_id, "good", result.requirement.decision ? decisionText(result.requirement.decision) : "Done", " — ", run);
    }
  }

  fail(item, error) {
    if (error.status === 404 || error.status === 410) {
      this.settle(item.requirement_id, "late", "This request is gone.");
      return;
    }
    const row = this.rowElement(item.requirement_id);
    row?.querySelector(".problem")?.remove();
    row?.querySelector(".what").append(h("p", { class: "problem", role: "alert" }, error.message));
  }

  async act(items, verb) {
    const able = items.filter((item) => item.may_decide && (verb === "reject" ? item.kind !== "question" : isPlain(item)));
    if (able.length === 0) {
      if (items.length === 1) location.assign(requestPath(items[0].requirement_id));
      return;
    }
    const body = { decision: verb };
    if (verb === "reject") {
      const note = await askNote(able.length);
      if (note === null) return;
      if (note) body.note = note;
    } else if (able.length > 1 && !(await confirmMany(able.map((item) => callText(item.tool_name, item.arguments))))) {
      return;
    }
    for (const item of able) {
      if (verb === "approve" && item.in_doubt && !(await confirmDoubt(item, callText(item.tool_name, item.arguments, 2000)))) return;
    }
    if (able.length === 1) {
      await decide(able[0], body).then((result) => this.settleWith(able[0], result), (error) => this.fail(able[0], error));
      return;
    }
    const results = await decideAll(able, body).catch((error) => able.map(() => ({ error: { detail: error.message }, status_code: error.status })));
    results.forEach((result, index) => {
      if (result.requirement) this.settleWith(able[index], result);
      else if (result.error?.decision) this.settleWith(able[index], { lost: result.error.decision });
      else this.fail(able[index], new ApiError(result.status_code, result.error));
    });
  }

  choose(item, isChosen) {
    if (isChosen) this.chosen.add(item.requirement_id);
    else this.chosen.delete(item.requirement_id);
    const row = this.rowElement(item.requirement_id);
    const box = row?.querySelector("input");
    if (box) box.checked = isChosen;
    const count = this.chosen.size;
    this.many.hidden = count === 0;
    const button = (verb, label, className) => h("button", { type: "button", class: className, on: { click: () => this.act(this.current(), verb) } }, `${label} ${count}`);
    fill(this.many, h("span", { role: "status" }, `${count} selected`), button("approve", "Approve", "good"), button("reject", "Reject", "bad"),
      h("button", { type: "button", class: "quiet", on: { click: () => this.clear() } }, "Clear"));
  }

  clear() {
    for (const id of [...this.chosen]) this.choose({ requirement_id: id }, false);
  }

  // ------------------------------------------------------------------------------ keyboard

  neighbour(row, step) {
    let next = row;
    do next = step > 0 ? next.nextElementSibling : next.previousElementSibling;
    while (next?.classList.contains("done"));
    return next;
  }

  focused() {
    return document.activeElement?.closest?.(".row") ?? null;
  }

  move(step) {
    const row = this.focused();
    const next = row ? this.neighbour(row, step) : this.list.querySelector(".row:not(.done)");
    next?.querySelector("a.call").focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  /** Return the requests that a key or a button means: those that are selected, or the one in focus. */
  current() {
    if (this.chosen.size) return [...this.chosen].map((id) => this.items.get(id)).filter(Boolean);
    const item = this.items.get(this.focused()?.dataset.id);
    return item ? [item] : [];
  }

  keys() {
    addKeys({
      j: ["Next request", () => this.move(1)],
      k: ["Previous request", () => this.move(-1)],
      Enter: ["Open the request", () => { const [item] = this.current(); if (item) location.assign(requestPath(item.requirement_id)); }],
      a: ["Approve", () => this.act(this.current(), "approve")],
      r: ["Reject", () => this.act(this.current(), "reject")],
      x: ["Select", () => { const row = this.focused(); const item = this.items.get(row?.dataset.id); if (item?.may_decide) this.choose(item, !this.chosen.has(item.requirement_id)); }],
      Escape: ["Clear the selection", () => this.clear()],
      "/": ["Filter", () => { this.filterElement.parentElement.open = true; this.filterElement.elements.agent_id.focus(); }],
    });
  }

  // ------------------------------------------------------------------------------ live

  onEvent({ event, data: item }) {
    if (event === "inbox.changed") {
      // Requests were deleted.
      this.load().catch(() => {});
      return;
    }
    const isHere = this.items.has(item.requirement_id);
    // After reconnecting the last seconds come again.
    if (this.settled.has(item.requirement_id)) return;
    const isOpen = event === "requirement.added" || event === "requirement.updated";
    if (isOpen && item.status === "open") {
      if (!this.belongs(item)) {
        if (isHere) this.remove(item.requirement_id);
      } else if (isHere || this.next === null) {
        this.put(item);
        if (!isHere) announce(`New request: ${callText(item.tool_name, item.arguments)}`);
      }
    } else if (isHere) {
      const text = { "requirement.expired": "Expired.", "requirement.cancelled": "The run was cancelled." }[event];
      this.settle(item.requirement_id, "late", item.decision ? decisionText(item.decision) : (text ?? "Decided elsewhere."));
    }
    this.showBelow();
  }
}

start(async ({ main, me }) => {
  const inbox = new Inbox(main, me);
  fill(inbox.below, loading());
  inbox.keys();
  let waiting = [];
  let wasAway = false;
  follow(`/inbox/events?${new URLSearchParams(acting())}`, {
    onEvent: (event) => (inbox.isLoaded ? inbox.onEvent(event) : waiting.push(event)),
    onState: (state) => {
      showConnection(state);
      // What happened meanwhile comes as events, unless there was none before that they could follow.
      if (state === "live" && wasAway) inbox.load().catch(() => {});
      wasAway = state === "reconnecting";
    },
  });
  await inbox.load();
  for (const event of waiting) inbox.onEvent(event);
  waiting = [];
});
