// Follows a stream of server-sent events, across restarts of the server: reconnects with Last-Event-ID.
//
// EventSource would do most of it, but it hides why a stream was refused, and it never notices a dead connection.

import { root, signIn } from "./api.js";

const SHORTEST = 500;
const LONGEST = 10_000;
// The server sends a comment at least every 15 seconds by default.
const SILENT = 60_000;
const FINAL = new Set([400, 403, 404, 405, 410, 422]);

/**
 * Follow the stream at `path` until `close()` of what this returns is called.
 *
 * `onEvent({ id, event, data })` gets each event with its JSON read. `onState(state)` gets "connecting", "live",
 * "reconnecting", and at the end "ended" or "refused", then with the HTTP status. `endsWhen(event)` says that no event
 * follows this one. `lastId` is the event to begin after.
 */
export function follow(path, { onEvent, onState = () => {}, endsWhen = () => false, lastId = null }) {
  const stop = new AbortController();
  let last = lastId;
  let delay = SHORTEST;
  let shown = null;

  const show = (state, status) => {
    if (state !== shown && !stop.signal.aborted) {
      shown = state;
      onState(state, status);
    }
  };

  async function connectOnce() {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    stop.signal.addEventListener("abort", abort);
    let silence = setTimeout(abort, SILENT);
    try {
      const headers = { Accept: "text/event-stream", "X-Unpause-Console": "1" };
      if (last !== null) headers["Last-Event-ID"] = last;
      const response = await fetch(root + path, {
        headers, signal: attempt.signal, cache: "no-store", credentials: "same-origin",
      });
      if (response.status === 401) {
        signIn();
        return "refused";
      }
      if (FINAL.has(response.status)) {
        show("refused", response.status);
        return "refused";
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      show("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return "again";
        delay = SHORTEST;
        clearTimeout(silence);
        silence = setTimeout(abort, SILENT);
        for (const frame of parser.add(value)) {
          if (frame.retry !== null) delay = frame.retry;
          if (frame.id !== null) last = frame.id;
          if (frame.data === null) continue;
          const event = { id: last, event: frame.event, data: JSON.parse(frame.data) };
          onEvent(event);
          if (endsWhen(event)) return "ended";
        }
      }
    } finally {
      clearTimeout(silence);
      stop.signal.removeEventListener("abort", abort);
      attempt.abort();
    }
  }

  (async () => {
    show("connecting");
    while (!stop.signal.aborted) {
      const how = await connectOnce().catch((error) => {
        if (!stop.signal.aborted && error instanceof SyntaxError) console.error(error);
        return "again";
      });
      if (how !== "again") {
        if (how === "ended") show("ended");
        return;
      }
      show("reconnecting");
      // Not all consoles at the same moment.
      await new Promise((resolve) => setTimeout(resolve, delay * (0.75 + Math.random() / 2)));
      delay = Math.min(LONGEST, delay * 2);
    }
  })();

  const close = () => stop.abort();
  addEventListener("pagehide", close, { once: true });
  return { close };
}

/** Reads frames from pieces of text. */
class Parser {
  #rest = "";

  add(text) {
    const blocks = (this.#rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.#rest = blocks.pop();
    return blocks.map(frameOf);
  }
}

function frameOf(block) {
  const frame = { event: "message", data: null, id: null, retry: null };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") frame.data = frame.data === null ? value : `${frame.data}\n${value}`;
    else if (name === "event") frame.event = value;
    else if (name === "id" && !value.includes("\0")) frame.id = value;
    else if (name === "retry" && /^\d+$/.test(value)) frame.retry = Number(value);
  }
  return frame;
}
