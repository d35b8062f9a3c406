// The console's beginning: who is signed in, which page the address names, and what surrounds every page.

import { Api } from "./api.js";
import { keepTimes, replace } from "./dom.js";
import { Live } from "./live.js";
import { activityPage } from "./activity.js";
import { enginePage } from "./engine.js";
import { episodePage } from "./episode.js";
import { episodesPage, newEpisodePage } from "./episodes.js";
import { inboxPage, watchInbox } from "./inbox.js";
import { jobsPage } from "./jobs.js";
import { forget, keep, kept, signInPage } from "./session.js";
import { Shell } from "./shell.js";

// A page is a function: it fills its place and answers how to leave it.
const PAGES = [
  [/^episodes$/, episodesPage],
  [/^episodes\/new$/, newEpisodePage],
  [/^episodes\/([0-9a-f-]{36})$/, episodePage],
  [/^jobs$/, jobsPage],
  [/^activity$/, activityPage],
  [/^inbox$/, inboxPage],
  [/^engine$/, enginePage],
];

const place = document.getElementById("shell");

function signIn(reason) {
  document.title = "Sign in – Greenroom";
  signInPage(place, {
    reason,
    onSignedIn: (session) => {
      keep(session);
      run(session);
    },
  });
}

function run(session) {
  let ended = false;
  const end = (reason) => {
    if (ended) return;
    ended = true;
    leave();
    window.removeEventListener("hashchange", show);
    stopInbox();
    live.close();
    forget(session);
    signIn(reason);
  };
  const refused = () => end("Your token is not accepted any more. Sign in again.");
  const api = new Api(session.token, refused);
  const live = new Live(session, { onRefused: refused });
  const shell = new Shell(place, { session, live, onSignOut: () => end("") });
  const context = { api, live, session, shell };
  const stopInbox = watchInbox(context);
  let leave = () => {};

  function show(event) {
    leave();
    const [path, query = ""] = (location.hash.replace(/^#\/?/, "") || "episodes").split("?");
    const [, page, match] = PAGES.map(([pattern, made]) => [pattern, made, pattern.exec(path)]).find(
      ([, , found]) => found,
    ) ?? [null, episodesPage, ["episodes"]];
    shell.turnTo(path.split("/")[0]);
    replace(shell.main);
    window.scrollTo(0, 0);
    leave = page({ ...context, query: new URLSearchParams(query) }, ...match.slice(1)) ?? (() => {});
    // Whoever came by a link goes on in the page, not in what was there before.
    if (event && !shell.main.contains(document.activeElement)) shell.main.focus({ preventScroll: true });
  }

  window.addEventListener("hashchange", show);
  show();
}

// It leads into the page; as an address it would name one.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
keepTimes();
const session = kept();
if (session) run(session);
else signIn("");
