// Starts a run from an empty inbox: for a first look, and for trying an agent.

import { api, root } from "./api.js";
import { byId, fill, h } from "./dom.js";

/** Return a form that starts a run of an agent; empty until the agents are known. */
export function starter() {
  const place = h("section", { class: "panel narrow starter", hidden: true, "aria-labelledby": "starter-title" });
  show(place).catch(() => {});
  return place;
}

async function show(place) {
  const agents = await api.get("/agents", {}, { signsIn: false });
  if (!agents.length) return;
  const isDemo = agents.length === 1 && agents[0].model?.provider === "unpause";
  const choices = agents.map((agent) => h("option", { value: agent.id }, agent.name));
  const message = isDemo ? "delete old.log" : "";
  const form = h(
    "form",
    { on: { submit: (event) => { event.preventDefault(); run(form); } } },
    h("div", { class: "field", hidden: agents.length === 1 }, h("label", { for: "starter-agent" }, "Agent"), h("select", { id: "starter-agent", name: "agent" }, choices)),
    h("div", { class: "field" }, h("label", { for: "starter-message" }, "Message"), h("input", { id: "starter-message", name: "message", required: true, value: message, autocomplete: "off" }),
      isDemo && h("p", { class: "help" }, "The demo agent works on the folder unpause-workspace. It has to ask before it deletes a file.")),
    h("p", { class: "problem", id: "starter-problem", role: "alert" }),
    h("button", { type: "submit", class: "primary" }, "Start the run"),
    h("p", { id: "starter-done", class: "help", role: "status" }),
  );
  fill(place, h("h2", { id: "starter-title" }, agents.length === 1 ? `Start a run of ${agents[0].name}` : "Start a run"), form, curl(agents[0].id, message || "…"));
  place.hidden = false;
}

function curl(agent, message) {
  const line = `curl ${location.origin}${root}/agents/${encodeURIComponent(agent)}/runs -F message='${message}' -F stream=false`;
  return h("details", {}, h("summary", {}, "From a shell"), h("pre", {}, h("code", {}, line)));
}

async function run(form) {
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  fill(byId("starter-problem"), "");
  try {
    const { agent, message } = form.elements;
    await api.post(`/agents/${encodeURIComponent(agent.value)}/runs`, { message: message.value, stream: false, background: true });
    fill(byId("starter-done"), "It runs. As soon as it has to ask, the request appears here.");
  } catch (error) {
    fill(byId("starter-problem"), error.message);
  }
  button.disabled = false;
}
