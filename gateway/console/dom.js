// Elements, lists that keep their elements, and how times are shown. Knows no episodes.

// h("button", { class: "primary", onclick: save, disabled: true }, "Save")
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Shapes that come as SVG: the same, in its own namespace.
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter(Boolean));
}

const FOCUSABLE = "a, button, input, select, textarea";

// A list whose elements live as long as their items do: focus, selection and animations survive a change.
export class Keyed {
  constructor(element, { key, make, update }) {
    Object.assign(this, { element, key, make, update });
    this.rows = new Map();
    // What each row shows, as JSON: one that would show the same is left alone.
    this.shown = new Map();
  }

  show(items) {
    const focused = document.activeElement;
    const before = this.rows;
    this.rows = new Map(items.map((item) => [this.key(item), before.get(this.key(item)) ?? this.make(item)]));
    // First of all, or every row below one that goes would have to move.
    for (const [key, row] of before) if (!this.rows.has(key)) this.drop(key, row);
    let place = this.element.firstElementChild;
    for (const item of items) {
      const row = this.rows.get(this.key(item));
      this.draw(row, item);
      if (row === place) place = place.nextElementSibling;
      else this.element.insertBefore(row, place);
    }
    // An element that moves loses the focus.
    if (focused !== document.activeElement && this.element.contains(focused)) focused.focus({ preventScroll: true });
  }

  draw(row, item) {
    const told = JSON.stringify(item);
    if (this.shown.get(this.key(item)) === told) return;
    this.shown.set(this.key(item), told);
    const focused = row.contains(document.activeElement) ? document.activeElement : null;
    this.update(row, item);
    if (!focused || row.contains(focused)) return;
    // What had the focus was drawn anew: whoever works by keyboard goes on from there.
    const heirs = [...row.querySelectorAll(FOCUSABLE)];
    (heirs.find((one) => one.textContent === focused.textContent) ?? heirs[0])?.focus({ preventScroll: true });
  }

  drop(key, row) {
    this.shown.delete(key);
    row.remove();
  }
}

// In the language of the page: words of another one between its own are read out wrongly.
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const steps = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];

// "3 min. ago"; the exact time is its title. `keepTimes` lets all of them on the page go on.
export function time(iso) {
  const element = h("time", { datetime: iso, title: new Date(iso).toLocaleString() });
  element.textContent = ago(iso);
  return element;
}

export function ago(iso, now = Date.now()) {
  let amount = (new Date(iso).getTime() - now) / 1000;
  if (Math.abs(amount) < 10) return "just now";
  for (const [unit, size] of steps) {
    if (Math.abs(amount) < size) return relative.format(Math.round(amount), unit);
    amount /= size;
  }
  return iso;
}

export function keepTimes() {
  return setInterval(() => {
    for (const element of document.querySelectorAll("time[datetime]")) {
      const text = ago(element.dateTime);
      if (element.textContent !== text) element.textContent = text;
    }
  }, 10_000);
}

// What is typed while a page waits: one call when it has been quiet for that long.
export function debounce(wait, call) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(call, wait, ...given);
  };
}

// What happens again and again: one call within that time, however much more happens meanwhile.
export function soon(wait, call) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      call();
    }, wait);
  };
}

// Tell people who listen to the page instead of looking at it.
export function announce(text) {
  const place = document.getElementById("announcements");
  if (!place) return;
  // The same words once more are news only if they were gone in between.
  place.textContent = "";
  requestAnimationFrame(() => (place.textContent = text));
}

export function words(name) {
  return name.replaceAll("_", " ");
}
