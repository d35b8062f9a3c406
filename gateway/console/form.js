// The form of an episode: reads and shows its fields, and puts the node's refusals beside them.

import { h, replace, words } from "./dom.js";

export const STATUSES = ["draft", "in_review", "approved", "published", "archived"];
export const FIELDS = ["title", "episode_number", "status", "categories", "description"];

export class EpisodeForm {
  constructor({ button, onSubmit, onDirty = () => {}, readOnly = false }) {
    this.onDirty = onDirty;
    this.readOnly = false;
    // Counts what was typed, so that an answer is known to be for this text.
    this.revision = 0;
    this.shown = {};
    this.inputs = {
      title: h("input", { name: "title", required: true, maxlength: 200, autocomplete: "off", dir: "auto" }),
      episode_number: h("input", { name: "episode_number", inputmode: "numeric", autocomplete: "off" }),
      status: h("select", { name: "status" }, ...STATUSES.map((status) => h("option", { value: status }, words(status)))),
      categories: h("input", { name: "categories", autocomplete: "off", placeholder: "Drama, Crime", dir: "auto" }),
      description: h("textarea", { name: "description", rows: 6, dir: "auto" }),
    };
    this.problems = {};
    this.general = h("p", { class: "problem", role: "alert" });
    this.button = h("button", { class: "primary" }, button);
    this.element = h(
      "form",
      { class: "stack", novalidate: true },
      this.field("title", "Title"),
      h("div", { class: "pair" }, this.field("episode_number", "Number"), this.field("status", "Status")),
      this.field("categories", "Categories", "separated by commas"),
      this.field("description", "Description"),
      this.general,
      !readOnly && h("div", { class: "actions" }, this.button),
    );
    if (readOnly) this.freeze();
    this.element.addEventListener("input", () => {
      this.revision += 1;
      this.onDirty();
    });
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(onSubmit);
    });
  }

  // What stands there can still be read, and copied.
  freeze(isFrozen = true) {
    this.readOnly = isFrozen;
    for (const input of Object.values(this.inputs)) input.readOnly = isFrozen;
    this.inputs.status.disabled = isFrozen;
    this.inputs.categories.placeholder = isFrozen ? "" : "Drama, Crime";
    this.button.disabled = isFrozen;
  }

  field(name, label, hint) {
    const problem = h("span", { class: "problem", id: `problem-${name}` });
    this.problems[name] = problem;
    this.inputs[name].setAttribute("aria-describedby", problem.id);
    return h("label", { class: "field" }, h("span", {}, label, hint && h("small", {}, ` ${hint}`)), this.inputs[name], problem);
  }

  focus() {
    this.inputs.title.focus();
  }

  async submit(onSubmit) {
    this.refuse({ message: "", errors: [] });
    const fields = this.fields();
    this.button.disabled = true;
    try {
      await onSubmit(fields);
    } finally {
      this.button.disabled = this.readOnly;
    }
  }

  // What is on the form, as the node takes it. A number that is none is sent as it is: the node says why not.
  fields() {
    const number = this.inputs.episode_number.value.trim();
    return {
      title: this.inputs.title.value.trim(),
      episode_number: number === "" ? null : /^\d+$/.test(number) ? Number(number) : number,
      status: this.inputs.status.value,
      categories: [...new Set(this.inputs.categories.value.split(",").map((one) => one.trim()).filter(Boolean))],
      description: this.inputs.description.value.trim() || null,
    };
  }

  // Show an episode; `keep` names fields that somebody is changing here.
  show(episode, { keep = [] } = {}) {
    this.shown = episode;
    this.fill(pick(episode, FIELDS.filter((name) => !keep.includes(name))));
  }

  // Put values on the form; a field that shows the same already keeps its cursor.
  fill(fields) {
    const now = this.fields();
    for (const [name, value] of Object.entries(fields)) {
      if (!same(now[name], value)) this.inputs[name].value = asText(name, value);
    }
  }

  // The names of the fields that differ from what was shown.
  dirty() {
    const now = this.fields();
    return FIELDS.filter((name) => !same(now[name], this.shown[name] ?? null));
  }

  refuse({ message, errors }) {
    for (const name of FIELDS) {
      const told = errors.filter(({ field }) => field === name).map((error) => error.message);
      replace(this.problems[name], told.join("; "));
      this.inputs[name].setAttribute("aria-invalid", String(told.length > 0));
    }
    const elsewhere = errors.filter(({ field }) => !FIELDS.includes(field)).map(({ field, message: text }) => `${field} ${text}`);
    this.general.textContent = errors.length > 0 ? elsewhere.join("; ") : message;
    this.element.querySelector("[aria-invalid=true]")?.focus();
  }
}

export function pick(fields, names) {
  return Object.fromEntries(names.map((name) => [name, fields[name] ?? null]));
}

export function asText(name, value) {
  if (value === null || value === undefined) return "";
  return name === "categories" ? value.join(", ") : String(value);
}

export function same(one, other) {
  return JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
}
