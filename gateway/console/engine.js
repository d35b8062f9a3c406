// The engine, for operators: throughput as it goes, the plugins' health, the supervision tree.

import { h, Keyed, replace, time } from "./dom.js";
import { Plot } from "./plot.js";
import { may } from "./session.js";

const EVERY = 2000;

export function enginePage({ api, session, shell }) {
  shell.title("Engine");
  if (!may(session, "operator")) {
    replace(shell.main, h("header", { class: "title" }, h("h1", {}, "Engine")), h("p", { class: "empty" }, "This page is for operators."));
    return undefined;
  }
  const plots = {
    deliveries: new Plot("Frames per second"),
    published: new Plot("Messages per second"),
    sessions: new Plot("Sessions"),
    waiting: new Plot("Waiting for the database"),
  };
  const plugins = new Keyed(h("tbody"), { key: (one) => one.name, make: () => h("tr", {}, ...[1, 2, 3, 4, 5].map(() => h("td"))), update: drawPlugin });
  const columns = h("tr", {}, ...["Plugin", "State", "Lag", "Handled"].map((name) => h("th", { scope: "col" }, name)), h("td"));
  const tree = h("ul", { class: "tree" });
  const problem = h("p", { class: "problem", role: "alert" });
  replace(
    shell.main,
    h("header", { class: "title" }, h("h1", {}, "Engine")),
    problem,
    h("div", { class: "plots" }, ...Object.values(plots).map((plot) => plot.element)),
    h("section", { class: "card" }, h("h2", {}, "Plugins"), h("table", { class: "list" }, h("thead", {}, columns), plugins.element)),
    h("section", { class: "card" }, h("h2", {}, "Supervision tree"), tree),
  );
  let before = null;
  let timer = null;
  let left = false;

  async function look() {
    try {
      const [now, found] = await Promise.all([api.get("engine/tree"), api.get("engine/plugins")]);
      measure(now);
      plugins.show(found.data);
      replace(tree, ...now.children.map(branch));
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
    if (!left) timer = setTimeout(look, EVERY);
  }

  function measure(now) {
    const at = performance.now();
    const { hub, pools } = now;
    if (before) {
      const seconds = (at - before.at) / 1000;
      plots.deliveries.add(Math.max(0, hub.deliveries_total - before.hub.deliveries_total) / seconds);
      plots.published.add(Math.max(0, hub.published_total - before.hub.published_total) / seconds);
    }
    plots.sessions.add(hub.sessions);
    plots.waiting.add(Object.values(pools).reduce((sum, { waiting }) => sum + waiting, 0));
    before = { at, hub };
  }

  function drawPlugin(row, { name, state, lag, handled_total: handled, last_error: error }) {
    row.dataset.plugin = name;
    const [title, health, behind, count, action] = row.children;
    replace(title, h("strong", {}, name), error && h("p", { class: "detail" }, String(error).split("\n").pop()));
    replace(health, h("span", { class: "status", "data-status": state }, state));
    behind.textContent = lag ?? "–";
    count.textContent = handled ?? "–";
    replace(action, state === "quarantined" && h("button", { class: "plain", onclick: () => resume(name) }, "Resume"));
  }

  async function resume(name) {
    try {
      await api.post(`engine/plugins/${encodeURIComponent(name)}/resume`);
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  look();
  return () => {
    left = true;
    clearTimeout(timer);
  };
}

function branch({ name, kind, state, restarts, mailbox, children, parked_until: parked }) {
  const facts = [
    kind !== name && kind,
    restarts > 0 && `${restarts} restart${restarts === 1 ? "" : "s"}`,
    mailbox && mailbox.depth > 0 && `${mailbox.depth} in the mailbox`,
    children && children.length > 0 && `${children.length} ${children.length === 1 ? "child" : "children"}`,
  ].filter(Boolean);
  return h(
    "li",
    {},
    h("span", { class: "dot", "data-status": state ?? "running" }),
    h("strong", {}, name),
    h("small", {}, facts.join(" · ")),
    parked && time(parked),
    children && children.length > 0 && h("ul", {}, ...children.map(branch)),
  );
}
