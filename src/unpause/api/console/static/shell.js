// What all pages share: who is signed in, signing out, the state of the connection, and a page that begins or fails.

import { showMe } from "./acting.js";
import { api, root, signIn } from "./api.js";
import { byId, fill } from "./dom.js";
import { listen } from "./keys.js";
import { loading, problem } from "./states.js";

const STATES = { connecting: "Connecting…", live: "Live", reconnecting: "Reconnecting…", ended: "", refused: "" };

/** Show the state of the page's stream in the header; `follow` of live.js calls it. */
export function showConnection(state) {
  const element = byId("connection");
  element.dataset.state = state;
  fill(element, STATES[state] ?? "");
}

async function signOut() {
  await api.post("/console/sign-out", {}, { signsIn: false }).catch(() => {});
  location.assign(`${root}/console/sign-in`);
}

function showCaller(me) {
  showMe(me);
  byId("sign-out").hidden = !me.authenticated;
  byId("sign-out").addEventListener("click", signOut);
  for (const entry of document.querySelectorAll("[data-admin]")) entry.hidden = !me.is_admin;
}

/** Begin the page: `page({ me, main, id })` gets who is signed in, the element of the content, and the path's last part. */
export async function start(page) {
  const main = byId("main");
  const waiting = loading();
  main.append(waiting);
  listen();
  try {
    const me = await api.get("/me");
    showCaller(me);
    waiting.remove();
    await page({ me, main, id: decodeURIComponent(location.pathname.split("/").filter(Boolean).pop() ?? "") });
  } catch (error) {
    waiting.remove();
    if (error.status === 401) signIn();
    main.replaceChildren();
    main.append(problem(error));
  }
}
