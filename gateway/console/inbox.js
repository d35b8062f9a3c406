// The inbox: what one person is told, live, and how much of it is unread.

import { h, Keyed, replace, soon, time } from "./dom.js";

// Shared by the bell and the page: it hears of notifications on whatever page one is.
const inbox = { unread: 0, onChange: () => {}, onRead: () => {} };

export function watchInbox({ api, live, session, shell }) {
  const read = async () => {
    const { unread } = await api.get("notifications", { limit: 1 });
    count(shell, unread);
    inbox.onChange();
  };
  const quietly = () => read().catch(() => {});
  // What is read in one tab is read in the others; elsewhere, it shows when one looks at the page again.
  const tabs = new BroadcastChannel(`greenroom.inbox.${session.user}`);
  tabs.onmessage = quietly;
  inbox.onRead = () => tabs.postMessage("read");
  const looked = () => document.hidden || quietly();
  document.addEventListener("visibilitychange", looked);
  const stop = live.topic(`user:${session.user}`, {
    onEvent: (frame) => {
      if (frame.event !== "notification_created") return;
      count(shell, inbox.unread + 1);
      inbox.onChange();
    },
    read: quietly,
  });
  return () => {
    document.removeEventListener("visibilitychange", looked);
    tabs.close();
    stop();
  };
}

function count(shell, unread) {
  inbox.unread = unread;
  shell.unread(unread);
}

const PAGE = 50;
// As many as the node gives at once.
const MOST = 200;

export function inboxPage({ api, shell }) {
  shell.title("Inbox");
  const list = new Keyed(h("ul", { class: "inbox" }), {
    key: (one) => one.id,
    make: (one) => h("li", {}, h("div", { class: "told" }, title(one), h("p", { dir: "auto" }, one.message)), time(one.createdAt), h("span")),
    update: (row, one) => {
      row.classList.toggle("unread", one.readAt === null);
      replace(row.lastElementChild, one.readAt === null && h("button", { class: "plain", onclick: () => mark(one) }, "Mark as read"));
    },
  });
  const more = h("button", { hidden: true, onclick: () => attempt(() => load(true)) }, "Show older ones");
  const empty = h("p", { class: "empty", hidden: true }, "Nothing has been said to you yet.");
  const all = h("button", { onclick: markAll }, "Mark all as read");
  const problem = h("p", { class: "problem", role: "alert" });
  replace(shell.main, h("header", { class: "title" }, h("h1", {}, "Inbox"), all), problem, list.element, empty, more);
  let shown = [];
  let cursor = null;
  // The latest question: answers to earlier ones come too late.
  let asked = 0;

  async function load(older = false) {
    const number = (asked += 1);
    const limit = older ? PAGE : Math.min(MOST, Math.max(PAGE, shown.length));
    const page = await api.get("notifications", { limit, cursor: older ? cursor : null });
    if (number !== asked) return;
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

  const mark = (one) =>
    attempt(async () => {
      const marked = await api.post(`notifications/${one.id}/read`);
      shown = shown.map((other) => (other.id === one.id ? marked : other));
      count(shell, Math.max(0, inbox.unread - 1));
      draw();
      inbox.onRead();
    });

  async function markAll() {
    await attempt(async () => {
      await api.post("notifications/read-all");
      await load();
      inbox.onRead();
    });
  }

  async function attempt(call) {
    try {
      await call();
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  // A hundred notifications at once are read once.
  inbox.onChange = soon(100, () => attempt(load));
  attempt(load);
  return () => (inbox.onChange = () => {});
}

function title(one) {
  const text = h("strong", {}, one.title);
  return one.resourceType === "episode" && !one.type.endsWith("_deleted")
    ? h("a", { href: `#/episodes/${one.resourceId}` }, text)
    : text;
}
