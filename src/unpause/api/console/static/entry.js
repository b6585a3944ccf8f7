// What the two ways to sign in share.

import { api, root } from "./api.js";
import { byId, fill } from "./dom.js";

/** Return where to go after signing in: a page of this console, whatever the address says. */
export function nextPage() {
  const home = `${root}/console`;
  try {
    const next = new URL(new URLSearchParams(location.search).get("next") ?? home, location.origin);
    const isOurs = next.origin === location.origin && (next.pathname === home || next.pathname.startsWith(`${home}/`));
    const leadsBack = next.pathname.startsWith(`${home}/sign-in`) || next.pathname.startsWith(`${home}/login`);
    return isOurs && !leadsBack ? next.pathname + next.search : home;
  } catch {
    return home;
  }
}

/** Return who is signed in already; null for nobody. */
export const present = () => api.get("/me", {}, { signsIn: false }).catch(() => null);

/** Have the form send what `body` returns, and go on. */
export function onSubmit(form, path, body) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    fill(byId("problem"), "");
    try {
      await api.post(path, body(), { signsIn: false });
      location.replace(nextPage());
    } catch (error) {
      fill(byId("problem"), error.message);
      button.disabled = false;
      form.querySelector("input")?.focus();
    }
  });
}
