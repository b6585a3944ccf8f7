// "Also for this session": what a decision may grant beyond the one call, where the tool's author allows it.

import { h } from "./dom.js";

/** Return the field, with `read()` for the decision; null where the author allows nothing. */
export function rememberField() {
  return null;
}
