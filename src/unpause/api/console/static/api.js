// Requests to the API with the console's cookie, and what can go wrong with them.

export const root = document.documentElement.dataset.root;

/** A refusal, or no answer at all: then `status` is 0. */
export class ApiError extends Error {
  constructor(status, body) {
    super(messageOf(status, body));
    this.status = status;
    this.body = body ?? {};
    this.code = this.body.error_code ?? null;
  }
}

function messageOf(status, body) {
  const detail = body?.detail ?? body?.message;
  if (Array.isArray(detail)) {
    return detail.map((item) => `${(item.loc ?? []).filter((part) => part !== "body").join(".")}: ${item.msg}`).join("; ");
  }
  if (typeof detail === "string" && detail) return detail;
  return status === 0 ? "The server cannot be reached." : `The server answered ${status}.`;
}

/** Leave for the sign-in page, and come back here afterwards. */
export function signIn() {
  const here = location.pathname + location.search;
  location.replace(`${root}/console/sign-in?next=${encodeURIComponent(here)}`);
}

const TRIES = 3;
const unlessAborted = (error) => {
  if (error.name === "AbortError") throw error;
  return null;
};
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function send(method, path, { query, body, headers = {}, signal, signsIn = true } = {}) {
  const url = new URL(root + path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const each of [value].flat()) {
      if (each !== null && each !== undefined && each !== "") url.searchParams.append(name, each);
    }
  }
  const options = { method, signal, headers: { Accept: "application/json", "X-Unpause-Console": "1", ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(url, { ...options, cache: "no-store", credentials: "same-origin" }).catch(unlessAborted);
    const answer = response && response.status !== 204 ? await response.json().catch(unlessAborted) : null;
    if (response?.ok && (response.status === 204 || answer)) return answer;
    // An answer that breaks off, or is a page of somebody between, is none.
    const status = response && !response.ok ? response.status : 0;
    // Nothing was done, or the Idempotency-Key has it done once: it may be sent again.
    const isRepeatable = method === "GET" || Boolean(headers["Idempotency-Key"]);
    if (isRepeatable && attempt < TRIES && (status === 503 || status === 429 || (status === 0 && method !== "GET"))) {
      await pause(Math.min(5, Number(response?.headers.get("Retry-After")) || attempt));
      continue;
    }
    if (status === 401 && signsIn) signIn();
    throw new ApiError(status, answer);
  }
}

/** Return a key that makes it safe to send a change again. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const api = {
  /** Return the JSON of a GET; `query` values that are lists are repeated, and empty ones are left out. */
  get: (path, query, options) => send("GET", path, { query, ...options }),
  /** Send JSON and return the answer's. */
  post: (path, body, options) => send("POST", path, { body, ...options }),
  /** Delete, and return the answer's JSON, if any. */
  delete: (path, options) => send("DELETE", path, options),
  /** Send a change that has its effect once, however often it is sent. */
  change: (path, body, key = newKey()) => send("POST", path, { body, headers: { "Idempotency-Key": key } }),
};
