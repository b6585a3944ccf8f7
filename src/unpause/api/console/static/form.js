// Draws a form from a JSON schema, and reads it back as JSON. What cannot be drawn is a text area with JSON.
//
// The server checks every value again: these checks are only to say earlier what is wrong.

import { h } from "./dom.js";

const LONG = 60;
const PROSE = /body|text|content|message|description|comment|note|reason/i;
let counter = 0;

const isNull = (schema) => schema.type === "null" || (schema.enum?.length === 1 && schema.enum[0] === null);

/** Return the schema of a value that is there, and whether null is one, too. */
function unwrap(schema) {
  const options = schema.anyOf ?? schema.oneOf;
  if (options) {
    const rest = options.filter((option) => !isNull(option));
    if (rest.length === 1) return [{ ...schema, anyOf: undefined, oneOf: undefined, ...rest[0] }, rest.length < options.length];
    if (rest.every((option) => "const" in option)) {
      return [{ ...schema, anyOf: undefined, oneOf: undefined, enum: rest.map((option) => option.const), titles: rest.map((option) => option.title) }, rest.length < options.length];
    }
    return [schema, rest.length < options.length];
  }
  if (Array.isArray(schema.type) && schema.type.includes("null")) {
    const rest = schema.type.filter((type) => type !== "null");
    return [{ ...schema, type: rest.length === 1 ? rest[0] : rest, enum: schema.enum?.filter((each) => each !== null) }, true];
  }
  if ("const" in schema) return [{ ...schema, enum: [schema.const] }, false];
  if (schema.enum?.includes(null)) return [{ ...schema, enum: schema.enum.filter((each) => each !== null) }, true];
  return [schema, false];
}

class Invalid extends Error {}

const choice = (schema, value, isOptional) => {
  const known = schema.enum.findIndex((each) => JSON.stringify(each) === JSON.stringify(value));
  const options = schema.enum.map((each, index) =>
    h("option", { value: String(index), selected: index === known }, schema.titles?.[index] ?? (typeof each === "string" ? each : JSON.stringify(each))));
  const blank = isOptional || known < 0;
  const input = h("select", {}, blank && h("option", { value: "", selected: known < 0 }, isOptional ? "none" : "choose…"), options);
  return { input, read: () => (input.value === "" ? undefined : schema.enum[Number(input.value)]) };
};

const yesOrNo = (_, value, isOptional) => {
  if (!isOptional) {
    const input = h("input", { type: "checkbox", checked: value === true });
    return { input, read: () => input.checked, isCheckbox: true };
  }
  return choice({ enum: [true, false], titles: ["yes", "no"] }, value, true);
};

const severalOf = (schema, value) => {
  const boxes = schema.items.enum.map((each) => {
    counter += 1;
    const id = `choice-${counter}`;
    const box = h("input", { type: "checkbox", id, checked: (value ?? []).some((one) => JSON.stringify(one) === JSON.stringify(each)) });
    return { box, each, line: h("div", {}, box, " ", h("label", { for: id, class: "light" }, String(each))) };
  });
  return {
    input: h("div", {}, boxes.map(({ line }) => line)),
    isGroup: true,
    read: () => boxes.filter(({ box }) => box.checked).map(({ each }) => each),
  };
};

const number = (schema, value) => {
  const isWhole = schema.type === "integer";
  const input = h("input", { type: "text", inputmode: isWhole ? "numeric" : "decimal", autocomplete: "off", value: value ?? "" });
  return {
    input,
    read() {
      const text = input.value.trim();
      if (!text) return undefined;
      const pattern = isWhole ? /^[+-]?\d+$/ : /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
      const found = Number(text);
      if (!pattern.test(text)) throw new Invalid(isWhole ? "Enter a whole number." : "Enter a number, such as 2.5.");
      if (isWhole && !Number.isSafeInteger(found)) throw new Invalid("This number is too large for a browser.");
      if (schema.minimum !== undefined && found < schema.minimum) throw new Invalid(`At least ${schema.minimum}.`);
      if (schema.exclusiveMinimum !== undefined && found <= schema.exclusiveMinimum) throw new Invalid(`More than ${schema.exclusiveMinimum}.`);
      if (schema.maximum !== undefined && found > schema.maximum) throw new Invalid(`At most ${schema.maximum}.`);
      if (schema.exclusiveMaximum !== undefined && found >= schema.exclusiveMaximum) throw new Invalid(`Less than ${schema.exclusiveMaximum}.`);
      return found;
    },
  };
};

const TYPES = { date: "date", time: "time", email: "email", uri: "url", password: "password" };

const text = (schema, value, _, name) => {
  const isLong = String(value ?? "").includes("\n") || String(value ?? "").length > LONG || (!schema.format && !schema.maxLength && PROSE.test(name));
  const type = TYPES[schema.format] ?? (schema.writeOnly ? "password" : "text");
  const isTimestamp = schema.format === "date-time";
  const input = isLong && type === "text" && !isTimestamp
    ? h("textarea", { rows: Math.min(16, Math.max(3, String(value ?? "").split("\n").length + 1)), value: value ?? "" })
    : h("input", { type: isTimestamp ? "datetime-local" : type, step: isTimestamp || type === "time" ? "1" : null, autocomplete: "off", value: isTimestamp ? localTime(value) : (value ?? "") });
  const first = input.value;
  return {
    input,
    read() {
      // A browser may write what it was given in another way.
      if (input.value === first && value !== undefined) return value;
      const found = input.value;
      if (input.validity.badInput || input.validity.typeMismatch) throw new Invalid(input.validationMessage);
      if (!found) return undefined;
      if (isTimestamp) return new Date(found).toISOString();
      if (schema.minLength !== undefined && [...found].length < schema.minLength) throw new Invalid(`At least ${schema.minLength} characters.`);
      if (schema.maxLength !== undefined && [...found].length > schema.maxLength) throw new Invalid(`At most ${schema.maxLength} characters.`);
      if (schema.pattern && matches(schema.pattern, found) === false) throw new Invalid(`It has to match ${schema.pattern}.`);
      return found;
    },
  };
};

function localTime(value) {
  const moment = value ? new Date(value) : null;
  if (!moment || Number.isNaN(moment.getTime())) return "";
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function matches(pattern, found) {
  try {
    return new RegExp(pattern, "u").test(found);
  } catch {
    // Not every pattern of Python's is one here.
    return null;
  }
}

const JSON_TYPES = { object: (value) => value !== null && typeof value === "object" && !Array.isArray(value), array: Array.isArray };

const json = (schema, value) => {
  const input = h("textarea", { class: "mono", rows: 5, spellcheck: "false", value: value === undefined ? "" : JSON.stringify(value, null, 2) });
  return {
    input,
    hint: "JSON",
    read() {
      if (!input.value.trim()) return undefined;
      let found;
      try {
        found = JSON.parse(input.value);
      } catch (error) {
        throw new Invalid(`This is not JSON: ${error.message}`);
      }
      const check = JSON_TYPES[schema.type];
      if (check && !check(found)) throw new Invalid(schema.type === "array" ? "Enter a list, such as [1, 2]." : "Enter an object, such as {\"a\": 1}.");
      const missing = (schema.required ?? []).filter((name) => schema.type === "object" && !(name in found));
      if (missing.length) throw new Invalid(`Missing: ${missing.join(", ")}.`);
      return found;
    },
  };
};

function controlFor(schema) {
  if (schema.enum) return choice;
  if (schema.type === "boolean") return yesOrNo;
  if (schema.type === "integer" || schema.type === "number") return number;
  if (schema.type === "string") return text;
  if (schema.type === "array" && schema.items?.enum) return severalOf;
  return json;
}

/** Return one field: its element, and `read()`, which returns `{ value }` or `{ error }` and shows that. */
function fieldOf(name, schema, isRequired) {
  counter += 1;
  const id = `field-${counter}`;
  const [plain, takesNull] = unwrap(schema);
  const value = schema.default ?? undefined;
  const control = controlFor(plain)(plain, value, (!isRequired && value === undefined) || takesNull, name);
  const error = h("p", { class: "problem", id: `${id}-error`, role: "alert" });
  const label = [h("bdi", {}, name), !isRequired && value === undefined && h("span", { class: "muted" }, " optional"), control.hint && h("span", { class: "muted" }, ` ${control.hint}`)];
  const help = schema.description && h("p", { class: "help", id: `${id}-help`, dir: "auto" }, schema.description);
  const described = [help && `${id}-help`, `${id}-error`].filter(Boolean).join(" ");
  if (control.isGroup) {
    control.input.setAttribute("role", "group");
    control.input.setAttribute("aria-labelledby", `${id}-label`);
  } else {
    control.input.id = id;
    if (isRequired && !control.isCheckbox) control.input.setAttribute("aria-required", "true");
  }
  control.input.setAttribute("aria-describedby", described);
  const named = control.isGroup ? h("span", { class: "label", id: `${id}-label` }, label) : h("label", { for: id }, label);
  const element = control.isCheckbox
    ? h("div", { class: "field check" }, control.input, " ", named, help, error)
    : h("div", { class: "field" }, named, control.input, help, error);

  function read({ shows = true } = {}) {
    let result;
    try {
      const found = control.read();
      if (found !== undefined) result = { value: found };
      else if (isRequired && takesNull) result = { value: null };
      else if (isRequired) throw new Invalid("This is missing.");
      // An optional value that was there and was taken away; an empty text is one, where null is none.
      else if (value !== undefined) result = takesNull ? { value: null } : plain.type === "string" && !plain.enum ? { value: "" } : {};
      else result = {};
    } catch (problem) {
      if (!(problem instanceof Invalid)) throw problem;
      result = { error: problem.message };
    }
    if (shows) {
      error.replaceChildren(result.error ?? "");
      if (!control.isGroup) control.input.setAttribute("aria-invalid", String(Boolean(result.error)));
    }
    return result;
  }

  return { name, element, read, focus: () => (control.isGroup ? control.input.querySelector("input") : control.input).focus() };
}

/** Return the form of an object's schema: its element, and `read()`, which returns `{ values }` or null. */
export function formOf({ schema, required }, names = Object.keys(schema.properties ?? {})) {
  const fields = names.map((name) => fieldOf(name, schema.properties[name], required.includes(name)));
  return {
    element: h("div", {}, fields.map((field) => field.element)),
    names,
    /** Read all fields; with an error the first such field gets the focus, and null is returned. */
    read({ shows = true } = {}) {
      const results = fields.map((field) => [field, field.read({ shows })]);
      const wrong = results.find(([, result]) => result.error);
      if (wrong) {
        if (shows) wrong[0].focus();
        return null;
      }
      return Object.fromEntries(results.filter(([, result]) => "value" in result).map(([field, result]) => [field.name, result.value]));
    },
  };
}
