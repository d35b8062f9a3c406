// The inbox: what one person is told, live, and how much of it is unread.

import { h, Keyed, replace, time } from "./dom.js";

// Shared by the bell and the page: it hears of notifications on whatever page one is.
const inbox = { unread: 0, onChange: () => {} };

export function watchInbox({ api, live, session, shell }) {
  const read = async () => {
    const { unread } = await api.get("notifications", { limit: 1 });
    count(shell, unread);
    inbox.onChange();
  };
  const quietly = () => read().catch(() => {});
  return live.topic(`user:${session.user}`, {
    onEvent: (frame) => {
      if (frame.event !== "notification_created") return;
      count(shell, inbox.unread + 1);
      inbox.onChange();
    },
    read: quietly,
  });
}

function count(shell, unread) {
  inbox.unread = unread;
  shell.unread(unread);
}

export function inboxPage({ api, shell }) {
  shell.title("Inbox");
  const list = new Keyed(h("ul", { class: "inbox" }), {
    key: (one) => one.id,
    make: (one) => h("li", {}, h("div", { class: "told" }, title(one), h("p", {}, one.message)), time(one.createdAt), h("span")),
    update: (row, one) => {
      row.classList.toggle("unread", one.readAt === null);
      replace(row.lastElementChild, one.readAt === null && h("button", { class: "plain", onclick: () => mark(one) }, "Mark as read"));
    },
  });
  const more = h("button", { hidden: true, onclick: () => load(true) }, "Show older ones");
  const empty = h("p", { class: "empty", hidden: true }, "Nothing has been said to you yet.");
  const all = h("button", { onclick: markAll }, "Mark all as read");
  replace(shell.main, h("header", { class: "title" }, h("h1", {}, "Inbox"), all), list.element, empty, more);
  let shown = [];
  let cursor = null;

  async function load(older = false) {
    const page = await api.get("notifications", { limit: 50, cursor: older ? cursor : null });
    shown = older ? [...shown, ...page.data] : page.data;
    cursor = page.next_cursor;
    count(shell, page.unread);
    draw();
  }

  function draw() {
    list.show(shown);
    more.hidden = cursor === null;
    empty.hidden = shown.length > 0;
    all.disabled = inbox.unread === 0;
  }

  async function mark(one) {
    const marked = await api.post(`notifications/${one.id}/read`);
    shown = shown.map((other) => (other.id === one.id ? marked : other));
    count(shell, Math.max(0, inbox.unread - 1));
    draw();
  }

  async function markAll() {
    await api.post("notifications/read-all");
    await load();
  }

  inbox.onChange = () => load().catch(() => {});
  inbox.onChange();
  return () => (inbox.onChange = () => {});
}

function title(one) {
  const text = h("strong", {}, one.title);
  return one.resourceType === "episode" && !one.type.endsWith("_deleted")
    ? h("a", { href: `#/episodes/${one.resourceId}` }, text)
    : text;
}
