/**
 * Greenroom for Vue 3: composables on top of a client. See docs/javascript.md.
 *
 *     import * as Vue from "vue";
 *     const { useEpisode, usePresence } = createGreenroom(Vue, connect({ … }));
 *
 * Vue is an argument, so that this module needs neither a bundler nor an import map. Whatever a composable
 * begins ends with the component, or the effect scope, that called it.
 */

// Milliseconds. After an event what it left out is read again, spread by chance: a crowd of pages hears of it
// at the same moment.
const SETTLE = 300;
// Notifications that are kept; older ones are a matter of REST.
const KEPT = 200;

/** What REST answered with, if it was a refusal: problem+json. */
export class ProblemError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.name = "ProblemError";
    this.status = status;
    this.problem = problem;
    /** By field, what is wrong with it. */
    this.fields = Object.fromEntries((problem.errors ?? []).map(({ field, message }) => [field, message]));
  }
}

/** Reads something again, by and by, once at a time; the latest wish counts, and nothing does after `stop`. */
class Reading {
  #read;
  #show;
  #fail;
  #timer = null;
  #isOver = false;
  #isReading = false;
  #isWanted = false;

  constructor(read, show, fail) {
    this.#read = read;
    this.#show = show;
    this.#fail = fail;
  }

  /** Read soon: something has changed. */
  soon() {
    if (this.#timer !== null || this.#isOver) return;
    this.#timer = setTimeout(() => this.now(), Math.random() * SETTLE);
  }

  /** What is just being read may be older than what was heard meanwhile. */
  doubt() {
    this.#isWanted = true;
  }

  async now() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#isWanted = true;
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#isWanted && !this.#isOver) {
      this.#isWanted = false;
      try {
        const found = await this.#read();
        if (!this.#isOver) this.#show(found);
      } catch (error) {
        if (!this.#isOver) this.#fail(error);
      }
    }
    this.#isReading = false;
  }

  stop() {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }
}

/**
 * The composables for one client. Ids and queries may be refs or getters: when they change, the composable
 * begins anew.
 */
export function createGreenroom(Vue, client) {
  const { computed, onScopeDispose, ref, shallowRef, toValue, watch } = Vue;

  async function ask(path, init) {
    const response = await client.fetch(path, init);
    const body = response.status === 204 ? null : await response.json();
    if (!response.ok) throw new ProblemError(response.status, body);
    return body;
  }

  /**
   * Run `begin(value, onEnd)` for the value now and for each later one; `onEnd` callbacks run before the next.
   * What it throws, as it does once the client is closed, is the `error`.
   */
  function follow(source, error, begin) {
    watch(
      source,
      async (value, _, onCleanup) => {
        const ends = [];
        let isOver = false;
        onCleanup(() => {
          isOver = true;
          ends.forEach((end) => end());
        });
        if (!value) return;
        try {
          await begin(value, (end) => (isOver ? end() : ends.push(end)));
        } catch (problem) {
          if (!isOver) error.value = problem;
        }
      },
      { immediate: true },
    );
  }

  /** How far the page can be trusted: `state` is the client's, `isLive` whether it is `live`. */
  function useConnection() {
    const state = ref(client.state);
    const trouble = ref(client.trouble);
    onScopeDispose(
      client.on("state", (now) => {
        state.value = now;
        trouble.value = client.trouble;
      }),
    );
    return { state, trouble, isLive: computed(() => state.value === "live") };
  }

  /**
   * The list of episodes, live. `query` has REST's parameters: `status`, `category`, `q`, `sort`, `limit`.
   * What is shown of a known episode changes at once; order, filter and total follow by and by.
   */
  function useEpisodes(query = {}) {
    const episodes = shallowRef([]);
    const total = ref(0);
    const isLoading = ref(true);
    const error = shallowRef(null);
    const parameters = computed(() =>
      String(new URLSearchParams(Object.entries(toValue(query)).filter(([, value]) => value ?? false))),
    );

    follow(
      () => ({ text: parameters.value }),
      error,
      async ({ text }, onEnd) => {
        isLoading.value = true;
        const reading = new Reading(
          () => ask(`episodes?${text}`),
          (page) => {
            [episodes.value, total.value] = [page.data, page.total];
            [error.value, isLoading.value] = [null, false];
          },
          (problem) => {
            [error.value, isLoading.value] = [problem, false];
          },
        );
        const subscription = client.subscribe("catalog");
        onEnd(() => (subscription.close(), reading.stop()));
        subscription.on("event", (event) => {
          if (!event.name.startsWith("episode_")) return;
          episodes.value = withEvent(episodes.value, event, isNewestFirst(text));
          reading.soon();
        });
        subscription.on("gap", () => reading.soon());
        await subscription.ready;
        await reading.now(); // only now: what happens from here on, the events tell
      },
    );
    return { episodes, total, isLoading, error };
  }

  /**
   * One episode, live: `save(fields)` changes it if nobody else has meanwhile, and rejects with ProblemError
   * otherwise (412: `episode` has the other's version by then or soon after; 422: `error.fields`).
   */
  function useEpisode(id) {
    const episode = shallowRef(null);
    const isDeleted = ref(false);
    const error = shallowRef(null);
    const lastEvent = shallowRef(null);

    function show(newer) {
      const known = episode.value;
      if (!known || known.id !== newer.id || newer.version >= known.version) episode.value = newer;
    }

    follow(
      () => toValue(id),
      error,
      (key, onEnd) => {
        [episode.value, isDeleted.value, error.value, lastEvent.value] = [null, false, null, null];
        const reading = new Reading(
          () => ask(`episodes/${key}`),
          (newer) => {
            error.value = null;
            show(newer);
          },
          (problem) => problem.status !== 404 && (error.value = problem),
        );
        const subscription = client.subscribe(`episode:${key}`, { snapshot: true });
        subscription.on("snapshot", (snapshot) => {
          isDeleted.value = snapshot.episode === null;
          if (snapshot.episode) show(snapshot.episode);
        });
        subscription.on("event", (event) => {
          lastEvent.value = event;
          if (event.name === "episode_deleted") isDeleted.value = true;
          else if (event.name === "episode_updated") {
            episode.value = { ...episode.value, ...event.data.episode };
            reading.soon(); // the event has no description and no version
          }
        });
        subscription.on("end", (refused) => {
          reading.stop(); // nothing would follow it any more
          if (refused) error.value = refused;
        });
        onEnd(() => (subscription.close(), reading.stop()));
      },
    );

    async function save(fields) {
      const { id: key, version } = episode.value;
      const headers = { "If-Match": `"${version}"` };
      const saved = await ask(`episodes/${key}`, { method: "PATCH", json: fields, headers });
      if (episode.value?.id === key) show(saved);
      return saved;
    }
    return { episode, isDeleted, error, lastEvent, save };
  }

  /**
   * Be present on an episode, and see who else is. `state` may be a ref or a getter; while the page is hidden
   * it shows `idle`.
   */
  function usePresence(id, { state = "viewing", name = null } = {}) {
    const viewers = shallowRef([]);
    const total = ref(0);
    const summary = shallowRef({ names: [], others: 0 });
    const error = shallowRef(null);
    const isHidden = ref(isPageHidden());
    const shown = computed(() => (isHidden.value ? "idle" : toValue(state)));
    const look = () => (isHidden.value = isPageHidden());
    globalThis.document?.addEventListener("visibilitychange", look);
    onScopeDispose(() => globalThis.document?.removeEventListener("visibilitychange", look));

    follow(
      () => toValue(id),
      error,
      (key, onEnd) => {
        [viewers.value, total.value, error.value] = [[], 0, null];
        const presence = client.join(key, { state: shown.value, name });
        const update = () => {
          viewers.value = presence.viewers;
          total.value = presence.total;
          summary.value = presence.summary;
        };
        if (presence.total > 0) update(); // joined elsewhere on this page already
        onEnd(presence.on("change", update));
        onEnd(presence.on("end", (refused) => refused && (error.value = refused)));
        const refused = (problem) => (error.value = problem);
        onEnd(watch(shown, (wanted) => void presence.setState(wanted).catch(refused)));
        onEnd(() => presence.leave());
      },
    );
    return { viewers, total, summary, error };
  }

  /** The caller's own notifications, newest first, and how many are unread; live. */
  function useNotifications() {
    const notifications = shallowRef([]);
    const unread = ref(0);
    const error = shallowRef(null);
    let subscription = null;
    let isOver = false;

    async function begin() {
      try {
        await client.ready(); // who we are is known from then on
        if (isOver) return;
        subscription = client.subscribe(`user:${client.identity.userId}`, { snapshot: true });
        subscription.on("snapshot", (snapshot) => {
          [notifications.value, unread.value] = [snapshot.notifications, snapshot.unread];
        });
        subscription.on("event", ({ name, data }) => {
          if (name !== "notification_created") return;
          notifications.value = [data.notification, ...notifications.value].slice(0, KEPT);
          unread.value += 1;
        });
        await subscription.ready;
      } catch (refused) {
        if (!isOver) error.value = refused;
      }
    }

    async function markRead(id) {
      const read = await ask(`notifications/${id}/read`, { method: "POST" });
      const before = notifications.value.find((each) => each.id === id);
      if (!before?.readAt) unread.value = Math.max(0, unread.value - 1);
      notifications.value = notifications.value.map((each) => (each.id === id ? read : each));
    }

    async function markAllRead() {
      await ask("notifications/read-all", { method: "POST" });
      const readAt = new Date().toISOString();
      notifications.value = notifications.value.map((each) => ({ ...each, readAt: each.readAt ?? readAt }));
      unread.value = 0;
    }

    begin();
    onScopeDispose(() => {
      isOver = true;
      subscription?.close();
    });
    return { notifications, unread, error, markRead, markAllRead };
  }

  /** One job, live: its state, attempt and progress; `cancel()` and `retry()`. */
  function useJob(id) {
    const job = shallowRef(null);
    const error = shallowRef(null);

    follow(
      () => toValue(id),
      error,
      async (key, onEnd) => {
        [job.value, error.value] = [null, null];
        let isOver = false;
        onEnd(() => (isOver = true));
        const first = await ask(`jobs/${key}`);
        if (isOver) return;
        job.value = first;
        const reading = new Reading(
          () => ask(`jobs/${key}`),
          (newer) => ([job.value, error.value] = [newer, null]),
          (problem) => (error.value = problem),
        );
        const subscription = client.subscribe(first.episode_id ? `episode:${first.episode_id}` : "jobs");
        onEnd(() => (subscription.close(), reading.stop()));
        subscription.on("event", ({ data }) => {
          if (data.job?.id !== key) return;
          job.value = { ...job.value, ...data.job, ...detailsOf(data) };
          reading.doubt();
        });
        subscription.on("gap", () => reading.soon());
        await subscription.ready;
        await reading.now(); // what happened before the events were heard
      },
    );
    const post = (verb) => ask(`jobs/${toValue(id)}/${verb}`, { method: "POST" });
    return { job, error, cancel: () => post("cancel"), retry: () => post("retry") };
  }

  return { client, useConnection, useEpisodes, useEpisode, usePresence, useNotifications, useJob };
}

/** A list after an event of one of its episodes, or of a new one. */
function withEvent(episodes, { name, data }, isNewestFirst) {
  const { episode, timestamp } = data;
  if (name === "episode_deleted") return episodes.filter(({ id }) => id !== episode.id);
  if (episodes.some(({ id }) => id === episode.id)) {
    return episodes.map((each) =>
      each.id === episode.id ? { ...each, ...episode, updated_at: timestamp } : each,
    );
  }
  if (name !== "episode_created" || !isNewestFirst) return episodes;
  const made = { version: 1, description: null, created_by: data.createdBy };
  return [{ ...episode, ...made, created_at: timestamp, updated_at: timestamp }, ...episodes];
}

/** Whether a list without filters begins with the newest: then a new episode can only be its first. */
function isNewestFirst(parameters) {
  return [...new URLSearchParams(parameters)].every(
    ([name, value]) => name === "limit" || (name === "sort" && value === "-created_at"),
  );
}

/** What a job's event has beside the job, under REST's names. */
function detailsOf({ error, result, message, nextRunAt: next_run_at }) {
  return Object.fromEntries(
    Object.entries({ error, result, message, next_run_at }).filter(([, value]) => value !== undefined),
  );
}

function isPageHidden() {
  return globalThis.document?.visibilityState === "hidden";
}
