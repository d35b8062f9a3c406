// A number as it goes: the last minutes as a line, the present value in figures.

import { h, s } from "./dom.js";

const KEPT = 90;
const WIDTH = 240;
const HEIGHT = 48;

export class Plot {
  constructor(title) {
    this.values = [];
    this.line = s("polyline", { class: "line" });
    this.area = s("polygon", { class: "area" });
    this.now = h("strong", {}, "–");
    this.most = h("small", {}, "");
    const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line);
    this.element = h("figure", { class: "plot" }, h("figcaption", {}, title, this.now), picture, this.most);
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > KEPT) this.values.shift();
    const most = Math.max(...this.values, 1);
    const step = WIDTH / (KEPT - 1);
    const first = WIDTH - (this.values.length - 1) * step;
    const points = this.values.map((one, index) => `${(first + index * step).toFixed(1)},${(HEIGHT - 2 - (one / most) * (HEIGHT - 6)).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", `${first.toFixed(1)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`);
    this.now.textContent = figure(value);
    this.most.textContent = `at most ${figure(Math.max(...this.values))}`;
  }
}

function figure(value) {
  if (value >= 10_000) return `${Math.round(value / 1000)}k`;
  return value >= 10 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}
