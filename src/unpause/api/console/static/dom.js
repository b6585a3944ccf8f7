// Builds nodes from text alone: whatever a model, a tool, a user or a webhook wrote appears as text.

const SVG = "http://www.w3.org/2000/svg";
const SVG_NAMES = new Set(["svg", "g", "rect", "path", "line", "circle", "polyline", "text", "title"]);

/**
 * Return an element. `props` are attributes, except: `on` (listeners by event), `data` (data-* by name), `class`,
 * and `value`, `checked`, `selected`, `disabled`, `hidden`, `open`, which are set as properties. An attribute that is
 * null, undefined or false is left out, and true is an empty one. Children are nodes, texts, or lists of them.
 */
export function h(name, props = {}, ...children) {
  const inSvg = SVG_NAMES.has(name) && (name !== "title" || props.svg);
  const element = inSvg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(props)) setProp(element, key, value);
  append(element, children);
  return element;
}

const PROPERTIES = new Set(["value", "checked", "selected", "disabled", "hidden", "open", "indeterminate"]);
const FORBIDDEN = /^(on|style$|srcdoc$|formaction$|xlink:)/i;

function setProp(element, key, value) {
  if (key === "svg" || value === null || value === undefined || value === false) return;
  if (key === "on") {
    for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
  } else if (key === "data") {
    for (const [name, text] of Object.entries(value)) element.dataset[name] = text;
  } else if (PROPERTIES.has(key)) {
    element[key] = value;
  } else if (FORBIDDEN.test(key)) {
    throw new TypeError(`the attribute ${key} is not set from text`);
  } else if (key === "href" || key === "src") {
    element.setAttribute(key, safeUrl(String(value)));
  } else {
    element.setAttribute(key, value === true ? "" : String(value));
  }
}

/** Return the URL if it leads to a page or is a picture in itself, else one that leads nowhere. */
export function safeUrl(url) {
  let parsed;
  try {
    parsed = new URL(url, document.baseURI);
  } catch {
    return "#";
  }
  if (["http:", "https:", "blob:"].includes(parsed.protocol)) return url;
  return /^data:image\/(png|jpeg|gif|webp);base64,/.test(url) ? url : "#";
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Put these children into the element in place of those that it has. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Return text that others wrote, as prose: its direction does not leak into what stands beside it. */
export const prose = (text, className = "prose") => h("div", { class: className, dir: "auto" }, text);

const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Return the text with every character visible that would hide or reorder others: for what is being approved. */
export function visible(text) {
  return text.replace(INVISIBLE, (found) => `‹U+${found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

/** Have a screen reader say it, without moving the focus. */
export function announce(text) {
  const announcer = byId("announcer");
  if (announcer) fill(announcer, text);
}
