// The page of jobs: found by state and type, submitted, and followed.

import { Problem } from "./api.js";
import { debounce, h, replace } from "./dom.js";
import { jobPage } from "./job.js";
import { JobList } from "./job_list.js";
import { may } from "./session.js";

const STATES = ["queued", "running", "retry", "completed", "failed", "cancelled"];

export function jobsPage(context) {
  const { api, live, session, shell, query } = context;
  if (query.get("id")) return jobPage(context, query.get("id"));
  shell.title("Jobs");
  const list = new JobList(context);
  const filter = (name) => (event) => {
    list.filter[name] = event.target.value.trim();
    load();
  };
  const type = h("input", { type: "search", placeholder: "Type", "aria-label": "Type" });
  type.addEventListener("input", debounce(250, filter("type")));
  const states = h("select", { "aria-label": "State", onchange: filter("state") }, h("option", { value: "" }, "Any state"), ...STATES.map((state) => h("option", { value: state }, state)));
  const submit = may(session, "editor") && submitForm(api, () => list.load());
  replace(shell.main, h("header", { class: "title" }, h("h1", {}, "Jobs")), h("div", { class: "toolbar", role: "search" }, type, states), submit, list.element);
  const load = () => list.load().catch((error) => (list.problem.textContent = error.message));
  return live.topic("catalog", {
    onEvent: ({ event, data }) => event.startsWith("job_") && list.happened(data.job, data),
    read: load,
  });
}

function submitForm(api, onSubmitted) {
  const type = h("input", { name: "type", required: true, placeholder: "episode.import", autocomplete: "off" });
  const payload = h("textarea", { name: "payload", rows: 3, spellcheck: "false", value: '{"path": "season1.csv"}' });
  const episode = h("input", { name: "episode", autocomplete: "off", placeholder: "an episode's id, if it belongs to one" });
  const problem = h("p", { class: "problem", role: "alert" });
  const label = (text, input) => h("label", { class: "field" }, h("span", {}, text), input);
  const button = h("button", { class: "primary" }, "Submit the job");
  // One key for one wish: pressing again after a lost answer makes no second job.
  let key = crypto.randomUUID();
  const form = h("form", { class: "stack", oninput: () => (key = crypto.randomUUID()) }, label("Type", type), label("Payload, as JSON", payload), label("Episode", episode), problem, h("div", { class: "actions" }, button));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    button.disabled = true;
    try {
      const wish = { type: type.value.trim(), payload: JSON.parse(payload.value || "{}") };
      if (episode.value.trim()) wish.episode_id = episode.value.trim();
      await api.post("jobs", wish, { "Idempotency-Key": key });
      key = crypto.randomUUID();
      await onSubmitted();
    } catch (error) {
      const told = error instanceof Problem ? error.errors.map(({ field, message }) => `${field} ${message}`) : [];
      problem.textContent = error instanceof SyntaxError ? `The payload is no JSON: ${error.message}` : [error.message, ...told].join(" – ");
    } finally {
      button.disabled = false;
    }
  });
  return h("details", { class: "card" }, h("summary", {}, "Submit a job"), form);
}
