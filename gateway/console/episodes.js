// The list of episodes: filtered, sorted, and changing under one's eyes; and the page that makes a new one.

import { Problem } from "./api.js";
import { announce, debounce, h, Keyed, replace, soon, time, words } from "./dom.js";
import { EpisodeForm, STATUSES } from "./form.js";
import { may } from "./session.js";

const SORTS = [
  ["-created_at", "newest"],
  ["-updated_at", "last changed"],
  ["episode_number", "number"],
  ["title", "title"],
  ["created_at", "oldest"],
];
const PAGE = 50;
// As many as the node gives at once.
const MOST = 200;
// So long a row that just came or changed is marked.
const MARKED = 6000;

export function episodesPage({ api, live, session, shell, query }) {
  shell.title("Episodes");
  const wish = {
    q: query.get("q") ?? "",
    status: query.get("status") ?? "",
    category: query.get("category") ?? "",
    sort: query.get("sort") ?? "-created_at",
  };
  const body = h("tbody");
  const rows = new Keyed(body, { key: (episode) => episode.id, make: makeRow, update: updateRow });
  const total = h("p", { class: "quiet", role: "status" });
  const empty = h("p", { class: "empty", hidden: true });
  const more = h("button", { hidden: true, onclick: () => load(true) }, "Show more");
  const create = may(session, "editor") && h("a", { class: "button primary", href: "#/episodes/new" }, "New episode");
  replace(
    shell.main,
    h("header", { class: "title" }, h("h1", {}, "Episodes"), total, create),
    toolbar(wish, changed),
    h(
      "table",
      { class: "list" },
      h("thead", {}, h("tr", {}, ...["No.", "Title", "Status", "Created by", "Changed"].map((name) => h("th", { scope: "col" }, name)))),
      body,
    ),
    empty,
    more,
  );
  let shown = [];
  let count = 0;
  let cursor = null;
  // The latest question: answers to earlier ones come too late.
  let asked = 0;
  let isAsking = false;
  // When each mark goes, by episode.
  const fading = new Map();

  async function load(further = false) {
    const number = (asked += 1);
    isAsking = true;
    try {
      const full = Math.max(1, Math.ceil(shown.length / PAGE)) * PAGE;
      const found = await read(further ? PAGE : full, further ? cursor : null);
      if (number !== asked) return;
      const news = new Map(shown.map((episode) => [episode.id, episode.news]));
      shown = further ? [...shown, ...found.data] : found.data;
      for (const episode of shown) episode.news ??= news.get(episode.id);
      ({ total: count, next_cursor: cursor } = found);
      draw();
    } catch (error) {
      if (number !== asked) return;
      empty.hidden = false;
      empty.textContent = error.message;
    }
    isAsking = false;
  }

  // As many as were shown already: what somebody is looking at stays where it is.
  async function read(wanted, from) {
    const found = { data: [], next_cursor: from };
    do {
      const limit = Math.min(MOST, wanted - found.data.length);
      const page = await api.get("episodes", { ...wish, limit, cursor: found.next_cursor });
      // What moves between two pages comes twice.
      found.data.push(...page.data.filter(({ id }) => !found.data.some((one) => one.id === id)));
      found.total = page.total;
      found.next_cursor = page.next_cursor;
    } while (found.next_cursor !== null && found.data.length < wanted);
    return found;
  }

  function draw() {
    rows.show(shown);
    total.textContent = `${count} ${count === 1 ? "episode" : "episodes"}`;
    more.hidden = cursor === null;
    empty.hidden = shown.length > 0;
    empty.textContent = wish.q || wish.status || wish.category ? "No episode is like that." : "There is no episode yet.";
  }

  function changed() {
    const given = Object.entries(wish).filter(([name, value]) => value && !(name === "sort" && value === "-created_at"));
    const text = new URLSearchParams(given).toString();
    history.replaceState(null, "", text ? `#/episodes?${text}` : "#/episodes");
    load();
  }

  // Everything that is not simply a known row's change is asked for: the node knows what the filter finds.
  const loadSoon = soon(150, () => load());

  function happened({ event, data }) {
    // The answer that is under way may have been made before this.
    if (isAsking && event.startsWith("episode_")) loadSoon();
    const known = data.episode && shown.find((episode) => episode.id === data.episode.id);
    if (event === "episode_created") {
      if (fits(data.episode)) newcomer(data);
    } else if (event === "episode_updated") {
      if (known && fits(data.episode)) refresh(known, data);
      else loadSoon();
    } else if (event === "episode_deleted") {
      if (known) {
        shown = shown.filter((episode) => episode !== known);
        count -= 1;
        draw();
      } else loadSoon();
    }
  }

  function fits(episode) {
    const text = wish.q.toLowerCase();
    return (
      (!wish.status || episode.status === wish.status) &&
      (!wish.category || episode.categories.includes(wish.category)) &&
      (!text || episode.title.toLowerCase().includes(text))
    );
  }

  function newcomer({ episode, createdBy, timestamp }) {
    const known = shown.find((one) => one.id === episode.id);
    const row = { ...episode, created_by: createdBy, created_at: timestamp, updated_at: timestamp, ...known, news: "new" };
    if (!known) count += 1;
    if (known || wish.sort === "-created_at" || wish.sort === "-updated_at") {
      // An answer may have been faster than the event: what is in the list already is new all the same.
      shown = known ? shown.map((one) => (one === known ? row : one)) : [row, ...shown];
      draw();
      fade(row);
    } else loadSoon();
    if (createdBy !== session.user) announce(`${episode.title}, created by ${createdBy}`);
  }

  function refresh(known, { episode, timestamp, updatedBy }) {
    const row = { ...known, ...episode, updated_at: timestamp, news: `changed by ${updatedBy}` };
    shown = shown.map((one) => (one === known ? row : one));
    draw();
    fade(row);
    if (wish.sort !== "-created_at" && wish.sort !== "created_at") loadSoon();
  }

  function fade({ id }) {
    clearTimeout(fading.get(id));
    const fadeNow = () => {
      fading.delete(id);
      shown = shown.map((one) => (one.id === id ? { ...one, news: undefined } : one));
      draw();
    };
    fading.set(id, setTimeout(fadeNow, MARKED));
  }

  const stop = live.topic("catalog", { onEvent: happened, read: () => load() });
  return () => {
    stop();
    asked += 1;
    for (const timer of fading.values()) clearTimeout(timer);
  };
}

function toolbar(wish, changed) {
  const change = (name) => (event) => {
    wish[name] = event.target.value;
    changed();
  };
  const options = (pairs, chosen) =>
    pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  const category = h("input", { type: "search", placeholder: "Category", "aria-label": "Category", value: wish.category });
  category.addEventListener("input", debounce(250, change("category")));
  const text = h("input", { type: "search", placeholder: "Search titles", "aria-label": "Search titles", value: wish.q });
  text.addEventListener("input", debounce(250, change("q")));
  const statuses = [["", "Any status"], ...STATUSES.map((status) => [status, words(status)])];
  return h(
    "div",
    { class: "toolbar", role: "search" },
    text,
    category,
    h("select", { "aria-label": "Status", onchange: change("status") }, ...options(statuses, wish.status)),
    h("label", { class: "inline" }, h("span", {}, "Sort"), h("select", { "aria-label": "Sort by", onchange: change("sort") }, ...options(SORTS, wish.sort))),
  );
}

function makeRow(episode) {
  return h(
    "tr",
    { onclick: (event) => event.target.closest("a") || (location.hash = `#/episodes/${episode.id}`) },
    ...["number", "name", "mark", "by", "when"].map((part) => h("td", { class: part })),
  );
}

function updateRow(row, episode) {
  const [number, name, mark, by, when] = row.children;
  if (episode.news) row.dataset.news = episode.news;
  else delete row.dataset.news;
  number.textContent = episode.episode_number ?? "–";
  replace(
    name,
    h("a", { href: `#/episodes/${episode.id}`, dir: "auto" }, episode.title),
    episode.categories.length > 0 && h("span", { class: "tags" }, ...episode.categories.map((one) => h("span", { dir: "auto" }, one))),
  );
  replace(mark, statusMark(episode.status));
  by.textContent = episode.created_by;
  replace(when, time(episode.updated_at), episode.news && h("em", {}, episode.news));
}

export function statusMark(status) {
  return h("span", { class: "status", "data-status": status }, words(status));
}

export function newEpisodePage({ api, session, shell }) {
  shell.title("New episode");
  if (!may(session, "editor")) {
    replace(shell.main, h("header", { class: "title" }, h("h1", {}, "New episode")), h("p", { class: "empty" }, "Editors make episodes; you are here as a viewer."));
    return;
  }
  const form = new EpisodeForm({ button: "Create the episode", onSubmit: create });
  replace(
    shell.main,
    h("header", { class: "title" }, h("h1", {}, "New episode")),
    h("section", { class: "card narrow" }, form.element),
  );
  form.show({ title: "", episode_number: null, description: null, status: "draft", categories: [] });
  form.focus();
  // One key for what is on the form: pressing twice, or again after a lost answer, makes one episode.
  const key = crypto.randomUUID();

  async function create(fields) {
    try {
      const made = await api.post("episodes", fields, { "Idempotency-Key": `${key}-${form.revision}` });
      location.hash = `#/episodes/${made.id}`;
    } catch (error) {
      form.refuse(error instanceof Problem ? error : { message: error.message, errors: [] });
    }
  }
}
