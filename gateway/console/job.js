// One job: its state, what became of each attempt, and what it was given and answered.

import { debounce, h, Keyed, replace, time, words } from "./dom.js";
import { JobList } from "./job_list.js";

// How each event of a job stands in the timeline, as activity does.
const LIKE = {
  job_queued: "CREATE",
  job_completed: "COMPLETE",
  job_retry: "RETRY",
  job_failed: "FAILED",
  job_cancelled: "DELETE",
};

export function jobPage({ api, live, session, shell }, id) {
  shell.title("Job");
  const list = new JobList({ api, session });
  const history = new Keyed(h("ol", { class: "timeline" }), { key: (frame) => frame.id, make: entry, update: () => {} });
  const facts = h("dl", { class: "facts" });
  replace(
    shell.main,
    h("header", { class: "title" }, h("h1", {}, "Job"), h("a", { href: "#/jobs" }, "All jobs")),
    list.element,
    h(
      "div",
      { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, "What is known of it"), facts),
      h("section", { class: "card" }, h("h2", {}, "What became of it"), history.element),
    ),
  );
  list.load = async () => {
    const job = await api.get(`jobs/${id}`);
    list.shown = [job];
    list.show();
    history.show(job.history.filter(({ event }) => event !== "job_progress").reverse());
    replace(facts, ...known(job));
  };
  const load = () => list.load().catch((error) => (list.problem.textContent = error.message));
  const loadSoon = debounce(250, load);
  return live.topic("catalog", {
    onEvent: ({ event, data }) => {
      if (!event.startsWith("job_") || data.job.id !== id) return;
      list.happened(data.job, data);
      loadSoon();
    },
    read: load,
  });
}

function entry({ event, data }) {
  const told = data.error ?? data.message;
  return h(
    "li",
    { "data-action": LIKE[event] },
    h("p", {}, h("strong", {}, words(event.replace("job_", ""))), data.job.attempt > 0 && ` · attempt ${data.job.attempt}`),
    h("p", { class: "detail" }, told && h("span", {}, String(told).split("\n").pop()), time(data.timestamp)),
  );
}

function known(job) {
  const facts = [
    ["Submitted by", job.submitted_by],
    ["Source", job.source],
    ["Episode", job.episode_id && h("a", { href: `#/episodes/${job.episode_id}` }, job.episode_id)],
    ["Unique key", job.unique_key],
    ["Priority", String(job.priority)],
    ["Time for an attempt", `${job.timeout} s`],
    ["Payload", h("pre", { class: "json" }, JSON.stringify(job.payload, null, 2))],
    ["Result", job.result !== null && h("pre", { class: "json" }, JSON.stringify(job.result, null, 2))],
    ["Error", job.error && h("pre", { class: "json" }, job.error)],
  ];
  return facts.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}
