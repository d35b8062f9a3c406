// What happened, as a timeline: of everything, or of one episode.

import { debounce, h, Keyed, replace, time, words } from "./dom.js";

const DID = {
  CREATE: "created",
  UPDATE: "changed",
  DELETE: "deleted",
  COMPLETE: "completed",
  RETRY: "will be tried again",
  FAILED: "failed",
};

// Effects write the record a moment after the event was shown.
const EFFECTS_TAKE = 400;

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
    this.soon = debounce(EFFECTS_TAKE, () => this.load().catch(() => {}));
  }

  async load(older = false) {
    const page = await this.api.get(this.path, { limit: 30, cursor: older ? this.cursor : null });
    this.shown = older ? [...this.shown, ...page.data] : page.data;
    this.cursor = page.next_cursor;
    this.list.show(this.shown);
    this.empty.hidden = this.shown.length > 0;
    this.more.hidden = this.cursor === null;
  }

  entry({ action, userId, resourceType, resourceId, metadata, createdAt }) {
    const what = this.withTitles && resourceType === "episode" && action !== "DELETE"
      ? h("a", { href: `#/episodes/${resourceId}` }, metadata.title)
      : h("q", {}, metadata.title ?? resourceType);
    const named = this.withTitles || resourceType !== "episode";
    return h(
      "li",
      { "data-action": action },
      h("p", {}, h("strong", {}, userId), ` ${DID[action] ?? action.toLowerCase()} `, named && [words(resourceType), " ", what], !named && "it"),
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
