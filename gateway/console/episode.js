// One episode: its form, who else is there, what happened, its jobs and its pictures.

import { Problem } from "./api.js";
import { Timeline } from "./activity.js";
import { Compositions } from "./compositions.js";
import { announce, h, replace, soon, words } from "./dom.js";
import { Editing } from "./editing.js";
import { statusMark } from "./episodes.js";
import { JobList } from "./job_list.js";
import { PresenceLine } from "./presence.js";
import { may } from "./session.js";

export function episodePage(context, id) {
  const { api, live, session, shell } = context;
  const mayEdit = may(session, "editor");
  const head = h("header", { class: "title" });
  const presence = new PresenceLine(session);
  const note = h("p", { class: "note", role: "status", hidden: true });
  const on = { episode: drawHead, dirty: dirtied, gone: vanish, say };
  const editing = new Editing({ api, session, id, readOnly: !mayEdit, on });
  const timeline = new Timeline(api, `episodes/${id}/activity`, { withTitles: false });
  const jobs = new JobList(context, { episode: id });
  const pictures = new Compositions(context, id);
  const aside = h(
    "div",
    { class: "rail" },
    h("section", { class: "card" }, h("h2", {}, "Jobs"), jobs.element),
    h("section", { class: "card" }, h("h2", {}, "Compositions"), pictures.element),
    h("section", { class: "card" }, h("h2", {}, "Activity"), timeline.element),
  );
  const columns = h("div", { class: "columns" }, h("section", { class: "card" }, editing.place, editing.form.element), aside);
  shell.title("Episode");
  replace(shell.main, head, presence.element, note, columns);
  let gone = false;
  let left = false;

  async function load() {
    try {
      const fresh = await api.get(`episodes/${id}`);
      if (!gone && !left) editing.arrived(fresh);
    } catch (error) {
      if (left) return;
      if (error instanceof Problem && error.status === 404) vanish("This episode does not exist any more.");
      else say(error.message);
    }
  }

  function drawHead(episode) {
    if (left) return;
    shell.title(episode.title);
    replace(
      head,
      h(
        "h1",
        {},
        episode.episode_number !== null && h("span", { class: "number" }, `${episode.episode_number}`),
        h("bdi", {}, episode.title),
      ),
      statusMark(episode.status),
      h("span", { class: "quiet" }, `version ${episode.version}, created by `, h("bdi", {}, episode.created_by)),
      mayEdit && !gone && h("button", { class: "plain danger", onclick: remove }, "Delete"),
    );
  }

  async function remove() {
    const { title, version } = editing.episode;
    if (!window.confirm(`Delete “${title}”? Its history stays readable.`)) return;
    try {
      await api.delete(`episodes/${id}`, version);
      gone = true;
      editing.draft.write({});
      location.hash = "#/episodes";
    } catch (error) {
      if (error instanceof Problem && error.status === 404) vanish("This episode does not exist any more.");
      else if (error instanceof Problem && error.status === 412) {
        say("Somebody else changed it meanwhile: look again before you delete it.");
        load();
      } else say(error.message);
    }
  }

  function dirtied(fields) {
    here.become(document.hidden ? "idle" : fields.length > 0 ? "editing" : "viewing");
  }

  function vanish(text) {
    if (gone) return;
    say(text);
    gone = true;
    editing.leave();
    editing.form.freeze();
    editing.draft.write({});
    dirtied([]);
    if (editing.episode) drawHead(editing.episode);
    else {
      replace(head, h("h1", {}, "No such episode"), h("a", { href: "#/episodes" }, "All episodes"));
      columns.hidden = true;
    }
  }

  function say(text) {
    if (gone) return; // that it was deleted is the last word
    note.hidden = !text;
    note.textContent = text;
  }

  const loadSoon = soon(50, load);

  function happened({ event, data }) {
    timeline.soon();
    if (event === "episode_updated") {
      if (data.updatedBy !== session.user) announce(`${data.updatedBy} changed ${data.changedFields.map(words).join(", ")}`);
      loadSoon();
    } else if (event === "episode_deleted") vanish(`${data.deletedBy} deleted this episode.`);
    else if (event.startsWith("job_")) jobs.happened(data.job, data);
    else if (event.startsWith("composition_")) pictures.loadSoon();
    if (event === "job_completed") pictures.load({ anew: true }).catch(() => {});
  }

  const everything = () => {
    load();
    for (const part of [timeline, jobs, pictures]) part.load().catch((error) => left || say(error.message));
  };
  const stop = live.topic(`episode:${id}`, { onEvent: happened, read: everything });
  const here = live.present(id, "viewing", (now) => presence.show(now));
  const idle = () => dirtied(editing.form.dirty());
  document.addEventListener("visibilitychange", idle);
  return () => {
    document.removeEventListener("visibilitychange", idle);
    left = true;
    stop();
    here.leave();
    pictures.close();
  };
}
