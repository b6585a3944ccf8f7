// "Also for this session": what a decision grants beyond the one call, where the tool's author allows it.

import { h } from "./dom.js";

const SCOPES = { run: "also for the rest of this run", session: "also for this session", until: "also until a time" };
const MATCHES = { arguments: "calls with exactly these arguments", tool: "every call of this tool" };

const option = (names) => ([value]) => h("option", { value }, names[value]);

/** Return the field, with `read()` for the decision; null where the author allows nothing. */
export function rememberField(remember) {
  if (!remember) return null;
  const scopes = remember.scopes ?? Object.keys(SCOPES);
  const matches = remember.matches ?? (remember.match === "tool" ? ["arguments", "tool"] : ["arguments"]);
  const scope = h("select", { id: "remember-scope" }, h("option", { value: "" }, "this call alone"), scopes.map((each) => [each]).map(option(SCOPES)));
  const match = h("select", { id: "remember-match" }, matches.map((each) => [each]).map(option(MATCHES)));
  const until = h("input", { id: "remember-until", type: "datetime-local" });
  const matchField = h("div", { class: "field", hidden: true }, h("label", { for: "remember-match" }, "Which calls"), match);
  const untilField = h("div", { class: "field", hidden: true }, h("label", { for: "remember-until" }, "Until"), until);
  scope.addEventListener("change", () => {
    matchField.hidden = !scope.value;
    untilField.hidden = scope.value !== "until";
  });
  return {
    element: h("fieldset", {}, h("div", { class: "field" }, h("label", { for: "remember-scope" }, "Your approval counts for"), scope), matchField, untilField),
    /** Return what is to be remembered; null for this call alone. */
    read() {
      if (!scope.value) return null;
      const found = { scope: scope.value, match: match.value };
      if (scope.value === "until") {
        if (!until.value) throw new RangeError("Choose until when the approval counts.");
        found.until = new Date(until.value).toISOString();
      }
      return found;
    },
  };
}
