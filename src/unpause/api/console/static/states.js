// What a page shows in place of its data: loading, empty, offline, forbidden, gone.

import { h } from "./dom.js";

/** Return a notice with a title, a text, and what to do about it. */
export function notice(title, text = "", ...actions) {
  // Where it stands for the whole page, its title is the page's.
  const heading = document.querySelector("main h1") ? "h2" : "h1";
  return h("section", { class: "notice" }, h(heading, {}, title), text && h("p", {}, text), actions);
}

/** Return what stands where data will be. */
export function loading(text = "Loading…") {
  return h("p", { class: "loading", role: "status" }, text);
}

/** Return the notice of an error of the API. */
export function problem(error, tryAgain = () => location.reload()) {
  const again = h("button", { type: "button", on: { click: tryAgain } }, "Try again");
  switch (error.status) {
    case 0:
      return notice("The server cannot be reached", "It may be restarting. Nothing is lost: what waits is on disk.", again);
    case 401:
      return notice("You are signed out", "Taking you to the sign-in page.");
    case 403:
      return notice("You may not see this", error.message);
    case 404:
      return notice("This is gone", "It was deleted, or it never was, or it belongs to somebody else.");
    case 429:
      return notice("Too many requests", error.message, again);
    case 503:
      return notice("The server is not ready", error.message, again);
    default:
      if (error.status === undefined) console.error(error);
      return notice("Something went wrong", error.message, again);
  }
}
