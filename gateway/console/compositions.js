// An episode's compositions as pictures: what was rendered, and a way to render it again.

import { h, Keyed, replace, soon } from "./dom.js";
import { may } from "./session.js";

export class Compositions {
  constructor({ api, session }, episode) {
    Object.assign(this, { api, session, episode });
    // Object URLs of the pictures that are shown, by composition and version: they must be given back.
    this.pictures = new Map();
    // The latest question: answers to earlier ones come too late.
    this.asked = 0;
    this.loadSoon = soon(100, () => this.load().catch(() => {}));
    this.list = new Keyed(h("ul", { class: "pictures" }), {
      key: (one) => one.id,
      make: (one) => h("li", {}, h("div", { class: "picture" }), h("p", {}), h("div", { class: "actions" }, this.renderButton(one))),
      update: (row, one) => this.draw(row, one),
    });
    this.empty = h("p", { class: "empty", hidden: true }, "No compositions.");
    this.problem = h("p", { class: "problem", role: "alert" });
    this.element = h("div", {}, this.list.element, this.empty, this.problem);
  }

  // `anew` fetches the pictures again, too: one that was drawn twice at the same version may differ.
  async load({ anew = false } = {}) {
    const number = (this.asked += 1);
    const { data } = await this.api.get(`episodes/${this.episode}/compositions`);
    if (number !== this.asked) return;
    if (anew) this.list.shown.clear();
    if (anew) for (const row of this.list.rows.values()) delete row.dataset.drawn;
    this.list.show(data);
    this.empty.hidden = data.length > 0;
  }

  renderButton(one) {
    return may(this.session, "editor") && h("button", { class: "plain", onclick: () => this.render(one) }, "Render");
  }

  draw(row, one) {
    const [place, name] = row.children;
    const { version, rendered_version: drawn } = one;
    const old = drawn !== null && drawn < version ? `, drawn at version ${drawn}` : "";
    replace(name, h("strong", { dir: "auto" }, one.name), " ", h("small", {}, `${one.status}, version ${version}${old}`));
    if (drawn === null) replace(place, h("span", { class: "quiet" }, "not rendered yet"));
    else if (row.dataset.drawn !== String(drawn)) {
      row.dataset.drawn = drawn;
      this.show(place, one);
    }
  }

  async show(place, one) {
    try {
      const url = URL.createObjectURL(await this.api.blob(`episodes/${this.episode}/compositions/${one.id}/image`));
      if (this.isClosed) return URL.revokeObjectURL(url);
      URL.revokeObjectURL(this.pictures.get(one.id));
      this.pictures.set(one.id, url);
      replace(place, h("img", { src: url, alt: `${one.name}, as rendered`, loading: "lazy" }));
    } catch (error) {
      replace(place, h("span", { class: "quiet" }, error.message));
    }
  }

  async render(one) {
    this.problem.textContent = "";
    try {
      await this.api.post("jobs", { type: "composition.render", episode_id: this.episode, payload: { composition_id: one.id } });
    } catch (error) {
      this.problem.textContent = error.message;
    }
  }

  close() {
    this.isClosed = true;
    for (const url of this.pictures.values()) URL.revokeObjectURL(url);
  }
}
