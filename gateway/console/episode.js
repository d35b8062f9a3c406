// One episode: its form, who else is there, what happened, its jobs and its pictures.

import { Problem } from "./api.js";
import { Timeline } from "./activity.js";
import { Compositions } from "./compositions.js";
import { askWhich, conflicts } from "./conflict.js";
import { announce, debounce, h, replace, words } from "./dom.js";
import { statusMark } from "./episodes.js";
import { EpisodeForm } from "./form.js";
import { JobList } from "./job_list.js";
import { PresenceLine } from "./presence.js";
import { may } from "./session.js";

export function episodePage(context, id) {
  const { api, live, session, shell } = context;
  const mayEdit = may(session, "editor");
  const head = h("header", { class: "title" });
  const presence = new PresenceLine(session);
  const note = h("p", { class: "note", role: "status", hidden: true });
  const dispute = h("div");
  const form = new EpisodeForm({ button: "Save", readOnly: !mayEdit, onSubmit: save, onDirty: dirtied });
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
  replace(shell.main, head, presence.element, note, h("div", { class: "columns" }, h("section", { class: "card" }, dispute, form.element), aside));
  let episode = null;
  let gone = false;

  async function load() {
    try {
      arrived(await api.get(`episodes/${id}`));
    } catch (error) {
      if (error instanceof Problem && error.status === 404) vanish("This episode does not exist any more.");
      else say(error.message);
    }
  }

  function arrived(fresh) {
    if (gone || (episode && fresh.version <= episode.version)) return;
    const dirty = episode ? form.dirty() : [];
    const base = episode;
    episode = fresh;
    drawHead();
    if (dirty.length === 0) {
      form.show(fresh);
      return;
    }
    // What nobody here is changing follows; the rest is asked about when it is saved.
    const mine = pick(form.fields(), dirty);
    const disputed = conflicts(base, mine, fresh);
    form.show({ ...fresh, ...pick(base, disputed) }, { keep: dirty });
    form.shown = { ...fresh };
    if (disputed.length > 0) {
      say(`Somebody else changed ${disputed.map(words).join(", ")}, which you are changing too.`);
      ask(base, mine);
    }
  }

  function drawHead() {
    shell.title(episode.title);
    replace(
      head,
      h("h1", {}, episode.episode_number !== null && h("span", { class: "number" }, `${episode.episode_number}`), episode.title),
      statusMark(episode.status),
      h("span", { class: "quiet" }, `version ${episode.version}, created by ${episode.created_by}`),
      mayEdit && h("button", { class: "plain danger", onclick: remove }, "Delete"),
    );
  }

  async function save() {
    const changed = form.dirty();
    if (changed.length === 0) return say("Nothing was changed.");
    await write(pick(form.fields(), changed));
  }

  async function write(fields) {
    const base = episode;
    try {
      arrived(await api.patch(`episodes/${id}`, fields, episode.version));
      form.show(episode);
      replace(dispute);
      dirtied([]);
      say("Saved.");
    } catch (error) {
      if (!(error instanceof Problem)) form.refuse({ message: error.message, errors: [] });
      else if (error.status === 412) await overtaken(base, fields);
      else form.refuse(error);
    }
  }

  // Somebody saved first, and the live event of it has not come yet.
  async function overtaken(base, mine) {
    const theirs = await api.get(`episodes/${id}`);
    episode = theirs;
    drawHead();
    if (conflicts(base, mine, theirs).length > 0) ask(base, mine);
    else await write(mine);
  }

  function ask(base, mine) {
    askWhich(dispute, {
      base,
      mine,
      theirs: episode,
      onLeave: () => replace(dispute),
      onChosen: async (fields) => {
        replace(dispute);
        if (Object.keys(fields).length > 0) await write(fields);
        else {
          form.show(episode);
          dirtied([]);
          say("Theirs is kept.");
        }
      },
    });
  }

  async function remove() {
    if (!window.confirm(`Delete “${episode.title}”? Its history stays readable.`)) return;
    try {
      await api.delete(`episodes/${id}`, episode.version);
      gone = true;
      location.hash = "#/episodes";
    } catch (error) {
      say(error.message);
    }
  }

  function dirtied(fields) {
    here.become(fields.length > 0 ? "editing" : "viewing");
  }

  function vanish(text) {
    gone = true;
    say(text);
    for (const input of Object.values(form.inputs)) input.disabled = true;
    form.button.disabled = true;
  }

  function say(text) {
    note.hidden = !text;
    note.textContent = text;
  }

  const loadSoon = debounce(50, load);

  function happened({ event, data }) {
    timeline.soon();
    if (event === "episode_updated") {
      if (data.updatedBy !== session.user) announce(`${data.updatedBy} changed ${data.changedFields.map(words).join(", ")}`);
      loadSoon();
    } else if (event === "episode_deleted") vanish(`${data.deletedBy} deleted this episode.`);
    else if (event.startsWith("job_")) jobs.happened(data.job, data);
    else if (event.startsWith("composition_")) pictures.load();
    if (event === "job_completed") pictures.load({ anew: true });
  }

  const everything = () => {
    load();
    for (const part of [timeline, jobs, pictures]) part.load().catch((error) => say(error.message));
  };
  const stop = live.topic(`episode:${id}`, { onEvent: happened, read: everything });
  const here = live.present(id, "viewing", (now) => presence.show(now));
  const idle = () => here.become(document.hidden ? "idle" : form.dirty().length > 0 ? "editing" : "viewing");
  document.addEventListener("visibilitychange", idle);
  return () => {
    document.removeEventListener("visibilitychange", idle);
    gone = true;
    stop();
    here.leave();
    pictures.close();
  };
}

function pick(fields, names) {
  return Object.fromEntries(names.map((name) => [name, fields[name] ?? null]));
}
