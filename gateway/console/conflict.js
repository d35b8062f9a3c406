// Two people changed the same episode: shows both sides of every field, and lets one choose.

import { h, replace, words } from "./dom.js";
import { asText, same } from "./form.js";

// `mine` has the fields that were changed here, `theirs` the episode as it stands, `base` what one began from.
export function conflicts(base, mine, theirs) {
  return Object.keys(mine).filter((name) => !same(theirs[name], base[name]) && !same(theirs[name], mine[name]));
}

// Fills `place`; calls `onChosen` with the fields to save, or with none when all of theirs is taken.
export function askWhich(place, { base, mine, theirs, onChosen, onLeave }) {
  const disputed = conflicts(base, mine, theirs);
  const choice = (name, side, value) =>
    h(
      "label",
      { class: "side-of" },
      h("input", { type: "radio", name, value: side, checked: side === "mine" }),
      h("small", {}, side === "mine" ? "Yours" : "Theirs"),
      h("span", {}, asText(name, value) || "(empty)"),
    );
  const form = h(
    "form",
    { class: "conflict", role: "group", "aria-labelledby": "conflict-title" },
    h("h2", { id: "conflict-title", tabindex: "-1" }, "Somebody else saved meanwhile"),
    h("p", {}, "These fields were changed on both sides. What only one side changed is kept."),
    ...disputed.map((name) =>
      h("fieldset", { class: "choices" }, h("legend", {}, words(name)), choice(name, "mine", mine[name]), choice(name, "theirs", theirs[name])),
    ),
    h(
      "div",
      { class: "actions" },
      h("button", { class: "primary" }, "Save the choice"),
      h("button", { type: "button", onclick: onLeave }, "Go on editing"),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = new FormData(form);
    onChosen(Object.fromEntries(Object.entries(mine).filter(([name]) => chosen.get(name) !== "theirs")));
  });
  replace(place, form);
  form.querySelector("h2").focus();
}
