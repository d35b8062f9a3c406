// An episode under somebody's hands: what they change, what others save meanwhile, and what is written.

import { Problem } from "./api.js";
import { askWhich } from "./conflict.js";
import { Draft } from "./draft.js";
import { h, replace, words } from "./dom.js";
import { EpisodeForm, pick, same } from "./form.js";

export class Editing {
  // `on` has `episode(episode)`, `dirty(names)`, `gone(text)` and `say(text)`.
  constructor({ api, session, id, readOnly, on }) {
    Object.assign(this, { api, id, readOnly, on });
    this.episode = null;
    // By field that is being changed here: the value that one began from.
    this.begun = {};
    this.draft = new Draft(session, id);
    this.question = null;
    this.place = h("div");
    this.form = new EpisodeForm({ button: "Save", readOnly, onSubmit: () => this.save(), onDirty: () => this.typed() });
    // Whoever is faster than the node would type what is overwritten.
    this.form.freeze();
  }

  // The episode as it stands. What nobody here is changing follows; the rest stays as it was typed.
  arrived(fresh) {
    if (this.episode && fresh.version <= this.episode.version) return;
    const { form } = this;
    if (!this.episode) form.freeze(this.readOnly);
    const dirty = this.episode ? form.dirty() : this.restore(fresh);
    for (const name of dirty) if (!(name in this.begun)) this.begun[name] = form.shown[name] ?? null;
    this.episode = fresh;
    form.show(fresh, { keep: dirty });
    this.on.episode(fresh);
    this.settle();
    const disputed = this.disputed();
    if (disputed.length === 0) return;
    this.on.say(`Somebody else changed ${disputed.map(words).join(", ")}, which you are changing too.`);
    this.ask();
  }

  // What was typed before the page was loaded anew is on the form again.
  restore(fresh) {
    const kept = this.draft.read();
    const names = Object.keys(kept).filter((name) => !same(kept[name].mine, fresh[name]));
    if (names.length === 0 || this.readOnly) return [];
    for (const name of names) this.begun[name] = kept[name].begun;
    this.form.fill(Object.fromEntries(names.map((name) => [name, kept[name].mine])));
    this.on.say("What you were changing is still here, and not saved yet.");
    return names;
  }

  typed() {
    this.settle();
    this.question?.follow(this.form.fields());
  }

  // What is not being changed any more is in no dispute.
  settle() {
    const dirty = this.form.dirty();
    for (const name of dirty) if (!(name in this.begun)) this.begun[name] = this.form.shown[name] ?? null;
    for (const name of Object.keys(this.begun)) if (!dirty.includes(name)) delete this.begun[name];
    const mine = this.form.fields();
    this.draft.write(Object.fromEntries(dirty.map((name) => [name, { mine: mine[name], begun: this.begun[name] }])));
    if (this.disputed().length === 0) this.leave();
    this.on.dirty(dirty);
  }

  // The fields that are being changed here, and were changed by somebody else since that began.
  disputed() {
    return this.form.dirty().filter((name) => !same(this.episode[name], this.begun[name]));
  }

  async save() {
    if (this.form.dirty().length === 0) this.on.say("Nothing was changed.");
    else if (this.disputed().length > 0) this.ask({ focus: true });
    else await this.write();
  }

  async write() {
    const sent = this.form.fields();
    const names = this.form.dirty();
    try {
      this.saved(await this.api.patch(`episodes/${this.id}`, pick(sent, names), this.episode.version), sent);
    } catch (error) {
      if (error instanceof Problem && error.status === 412) await this.overtaken();
      else if (error instanceof Problem && error.status === 404) this.on.gone("This episode does not exist any more.");
      else this.form.refuse({ message: error.message, errors: error.errors ?? [] });
    }
  }

  // What was typed while the node was saving is not saved yet.
  saved(answer, sent) {
    const now = this.form.fields();
    const typed = Object.keys(now).filter((name) => !same(now[name], sent[name]));
    if (answer.version >= this.episode.version) this.episode = answer;
    this.begun = {};
    this.form.show(this.episode, { keep: typed });
    this.on.episode(this.episode);
    this.settle();
    this.on.say(typed.length > 0 ? "Saved, but for what you typed since." : "Saved.");
  }

  // Somebody saved first, and the live event of it has not come yet.
  async overtaken() {
    try {
      this.arrived(await this.api.get(`episodes/${this.id}`));
    } catch (error) {
      this.form.refuse({ message: error.message, errors: [] });
      return;
    }
    if (this.form.dirty().length === 0) this.on.say("Somebody else saved the same.");
    else await this.save();
  }

  ask({ focus = false } = {}) {
    const wasThere = this.place.contains(document.activeElement);
    this.question = askWhich(this.place, {
      names: this.disputed(),
      mine: this.form.fields(),
      theirs: this.episode,
      before: this.question,
      onLeave: () => this.leave(),
      onChosen: (theirs) => this.chosen(theirs),
    });
    // A question that comes by itself takes nobody's keys away.
    if (focus || wasThere) this.question.focus();
  }

  leave() {
    this.question = null;
    replace(this.place);
  }

  // Of each field in dispute one side was chosen: it is in dispute no more.
  async chosen(theirs) {
    const { episode, form } = this;
    for (const name of this.disputed()) this.begun[name] = episode[name] ?? null;
    form.fill(pick(episode, theirs));
    this.settle();
    this.leave();
    form.focus();
    if (form.dirty().length > 0) await this.write();
    else this.on.say("Theirs is kept.");
  }
}
