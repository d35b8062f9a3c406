// What happened, as a timeline: of everything, or of one episode.

import { h, Keyed, replace, soon, time, words } from "./dom.js";

const DID = {
  CREATE: "created",
  UPDATE: "changed",
  DELETE: "deleted",
  COMPLETE: "completed",
  RETRY: "will be tried again",
  FAILED: "failed",
};
const BY_ITSELF = ["COMPLETE", "RETRY", "FAILED"];

// Effects write the record a moment after the event was shown; of a plugin that lags, somewhat later.
const EFFECTS_TAKE = 400;
const EFFECTS_MAY_TAKE = 3000;
const PAGE = 30;
// As many as the node gives at once.
const MOST = 200;

// A timeline that reads itself anew when told to.
export class Timeline {
  constructor(api, path, { withTitles }) {
    Object.assign(this, { api, path, withTitles });
    this.list = new Keyed(h("ol", { class: "timeline" }), {
      key: (one) => one.id,
      make: (one) => this.entry(one),
      update: () => {},
    });
    this.empty = h("p", { class: "empty", hidden: true }, "Nothing has happened yet.");
    this.more = h("button", { class: "plain", hidden: true, onclick: () => this.load(true) }, "Show older");
    this.element = h("div", {}, this.list.element, this.empty, this.more);
    this.shown = [];
    const quietly = () => this.load().catch(() => {});
    const looks = [soon(EFFECTS_TAKE, quietly), soon(EFFECTS_MAY_TAKE, quietly)];
    this.soon = () => looks.forEach((look) => look());
    // The latest question: answers to earlier ones come too late.
    this.asked = 0;
  }

  async load(older = false) {
    const number = (this.asked += 1);
    const limit = older ? PAGE : Math.min(MOST, Math.max(PAGE, this.shown.length));
    const page = await this.api.get(this.path, { limit, cursor: older ? this.cursor : null });
    if (number !== this.asked) return;
    this.shown = older ? [...this.shown, ...page.data] : page.data;
    this.cursor = page.next_cursor;
    this.list.show(this.shown);
    this.empty.hidden = this.shown.length > 0;
    this.more.hidden = this.cursor === null;
  }

  entry({ action, userId, resourceType, resourceId, metadata, createdAt }) {
    const what = this.withTitles && resourceType === "episode" && action !== "DELETE"
      ? h("a", { href: `#/episodes/${resourceId}`, dir: "auto" }, metadata.title)
      : h("q", { dir: "auto" }, metadata.title ?? resourceType);
    const did = DID[action] ?? action.toLowerCase();
    const who = h("strong", { dir: "auto" }, userId);
    const named = this.withTitles || resourceType !== "episode" ? [words(resourceType), " ", what] : ["it"];
    // What becomes of a job is not its submitter's doing.
    const told = BY_ITSELF.includes(action) ? ["Job ", what, ` ${did}, submitted by `, who] : [who, ` ${did} `, ...named];
    return h(
      "li",
      { "data-action": action },
      h("p", {}, ...told),
      h("p", { class: "detail" }, detail(metadata), time(createdAt)),
    );
  }
}

function detail({ changedFields, error, retryCount }) {
  const parts = [];
  if (changedFields) parts.push(changedFields.map(words).join(", "));
  if (retryCount) parts.push(`attempt ${retryCount}`);
  if (error) parts.push(String(error).split("\n")[0]);
  return parts.length > 0 && h("span", {}, parts.join(" · "));
}

export function activityPage({ api, live, shell }) {
  shell.title("Activity");
  const timeline = new Timeline(api, "activity", { withTitles: true });
  replace(shell.main, h("header", { class: "title" }, h("h1", {}, "Activity")), timeline.element);
  const load = () => timeline.load().catch((error) => (timeline.element.textContent = error.message));
  return live.topic("catalog", { onEvent: timeline.soon, read: load });
}
