// What surrounds every page: navigation, the bell, who is signed in, and whether what is shown is live.

import { announce, h, replace } from "./dom.js";
import { may } from "./session.js";

const SECTIONS = [
  ["episodes", "Episodes", "viewer"],
  ["jobs", "Jobs", "viewer"],
  ["activity", "Activity", "viewer"],
  ["inbox", "Inbox", "viewer"],
  ["engine", "Engine", "operator"],
];

const SAYS = {
  connecting: "Connecting…",
  live: "Live",
  recovering: "Catching up…",
  stale: "Not live",
  closed: "Not live",
};

export class Shell {
  constructor(place, { session, live, onSignOut }) {
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.badge = h("span", { class: "badge", hidden: true });
    this.state = h("p", { class: "state" });
    this.banner = h("section", { class: "banner", "aria-label": "Connection", hidden: true });
    this.links = new Map(
      SECTIONS.filter(([, , least]) => may(session, least)).map(([path, title]) => [
        path,
        h("a", { href: `#/${path}` }, title, path === "inbox" && this.badge),
      ]),
    );
    const brand = h("a", { class: "brand", href: "#/episodes" }, h("img", { src: "/console/icon.svg", alt: "" }), "Greenroom");
    const nav = h("nav", { "aria-label": "Sections" }, ...this.links.values());
    const who = h(
      "div",
      { class: "who" },
      this.state,
      h("p", {}, h("strong", { dir: "auto" }, session.name), " ", h("small", {}, session.role)),
      h("button", { class: "plain", onclick: onSignOut }, "Sign out"),
    );
    replace(place, h("header", { class: "side" }, brand, nav, who), h("div", { class: "page" }, this.banner, this.main));
    live.watch((state, since) => this.say(state, since));
  }

  turnTo(section) {
    for (const [path, link] of this.links) {
      if (path === section) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  title(text) {
    document.title = `${text} – Greenroom`;
  }

  unread(count) {
    this.badge.hidden = count === 0;
    replace(this.badge, String(count > 99 ? "99+" : count), h("span", { class: "unseen" }, " unread"));
  }

  say(state, since) {
    this.state.dataset.state = state;
    this.state.textContent = SAYS[state] ?? state;
    const doubtful = state === "stale" || state === "closed";
    if (doubtful && this.banner.hidden) announce("The connection is lost. What is shown may be out of date.");
    if (state === "live" && !this.banner.hidden) announce("Live again. What was missed is shown.");
    this.banner.hidden = !doubtful;
    const at = new Date(since).toLocaleTimeString();
    const next = state === "closed" ? "Load the page again to come back." : "Trying to come back…";
    this.banner.textContent = `Not live since ${at}: what you see may be out of date. ${next}`;
  }
}
