// A list of jobs: their state and progress as they go, and what one may do with each.

import { h, Keyed, replace, soon, time } from "./dom.js";
import { may } from "./session.js";

const PAGE = 30;
// As many as the node gives at once.
const MOST = 200;
const UNFINISHED = ["queued", "running", "retry"];

// A list of jobs that follows their events: of one episode, or of everything.
export class JobList {
  constructor({ api, session }, { episode = null } = {}) {
    Object.assign(this, { api, session, episode });
    this.filter = {};
    this.shown = [];
    this.list = new Keyed(h("ul", { class: "jobs" }), {
      key: (job) => job.id,
      make: () => h("li", {}, h("div", { class: "what" }), h("progress", { max: 1 }), h("p", { class: "detail" }), h("div", { class: "actions" })),
      update: (row, job) => this.draw(row, job),
    });
    this.empty = h("p", { class: "empty", hidden: true }, "No jobs.");
    this.problem = h("p", { class: "problem", role: "alert" });
    this.more = h("button", { class: "plain", hidden: true, onclick: () => this.load(true) }, "Show older");
    this.element = h("div", {}, this.list.element, this.empty, this.problem, this.more);
    this.loadSoon = soon(200, () => this.load().catch(() => {}));
    // The latest question: answers to earlier ones come too late.
    this.asked = 0;
    this.isAsking = false;
  }

  async load(older = false) {
    const path = this.episode ? `episodes/${this.episode}/jobs` : "jobs";
    const number = (this.asked += 1);
    this.isAsking = true;
    let page;
    try {
      const limit = older ? PAGE : Math.min(MOST, Math.max(PAGE, this.shown.length));
      page = await this.api.get(path, { limit, ...this.filter, cursor: older ? this.cursor : null });
    } finally {
      if (number === this.asked) this.isAsking = false;
    }
    if (number !== this.asked) return;
    this.shown = older ? [...this.shown, ...page.data] : page.data;
    this.cursor = page.next_cursor;
    this.show();
  }

  show() {
    this.list.show(this.shown);
    this.empty.hidden = this.shown.length > 0;
    this.more.hidden = !this.cursor;
  }

  // An event tells the job's present state; one that is not in the list yet is asked for.
  happened(job, more) {
    // The answer that is under way may have been made before this.
    if (this.isAsking) this.loadSoon();
    const known = this.shown.find((one) => one.id === job.id);
    if (!known || (this.filter.state && job.state !== this.filter.state)) {
      this.loadSoon();
      return;
    }
    const told = { error: more.error ?? known.error, message: more.message, next_run_at: more.nextRunAt ?? null };
    this.shown = this.shown.map((one) => (one === known ? { ...one, ...job, ...told } : one));
    this.show();
  }

  draw(row, job) {
    const [what, progress, detail, actions] = row.children;
    row.dataset.state = job.state;
    replace(
      what,
      h("a", { href: `#/jobs?id=${job.id}` }, job.type),
      h("span", { class: "status", "data-status": job.state }, job.state),
      job.attempt > 0 && h("small", {}, `attempt ${job.attempt} of ${job.max_attempts}`),
      job.created_at && time(job.created_at),
    );
    progress.hidden = job.state !== "running";
    progress.setAttribute("aria-label", `${job.type} progress`);
    if (job.progress === null || job.progress === undefined) progress.removeAttribute("value");
    else progress.value = job.progress;
    const text = job.state === "running" ? (job.message ?? "") : UNFINISHED.includes(job.state) || job.state === "failed" ? (job.error ?? "") : "";
    detail.hidden = !text;
    detail.textContent = String(text).split("\n").pop();
    replace(
      actions,
      may(this.session, "editor") && UNFINISHED.includes(job.state) && this.button("Cancel", job, "cancel"),
      may(this.session, "editor") && ["failed", "cancelled"].includes(job.state) && this.button("Try again", job, "retry"),
    );
  }

  button(text, job, verb) {
    return h("button", { class: "plain", onclick: () => this.act(job, verb), "aria-label": `${text}: ${job.type}` }, text);
  }

  async act(job, verb) {
    this.problem.textContent = "";
    try {
      await this.api.post(`jobs/${job.id}/${verb}`);
      await this.load();
    } catch (error) {
      this.problem.textContent = error.message;
    }
  }
}
