// Two people changed the same episode: shows both sides of every field, and lets one choose.

import { h, replace, words } from "./dom.js";
import { asText } from "./form.js";

// Fills `place`. `onChosen` is called with the names of the fields of which theirs is taken. What was chosen
// in the question `before` stays chosen.
export function askWhich(place, { names, mine, theirs, before, onChosen, onLeave }) {
  const taken = before?.taken() ?? [];
  const yours = new Map(names.map((name) => [name, h("span", { dir: "auto" })]));
  const choice = (name, side, shown) =>
    h(
      "label",
      { class: "side-of" },
      h("input", { type: "radio", name, value: side, checked: (side === "theirs") === taken.includes(name) }),
      h("small", {}, side === "mine" ? "Yours" : "Theirs"),
      shown,
    );
  const form = h(
    "form",
    { class: "conflict", "aria-labelledby": "conflict-title" },
    h("h2", { id: "conflict-title", tabindex: "-1" }, "Somebody else saved meanwhile"),
    h("p", {}, "These fields were changed on both sides. What only one side changed is kept."),
    ...names.map((name) =>
      h(
        "fieldset",
        { class: "choices" },
        h("legend", {}, words(name)),
        choice(name, "mine", yours.get(name)),
        choice(name, "theirs", h("span", { dir: "auto" }, shownAs(name, theirs))),
      ),
    ),
    h(
      "div",
      { class: "actions" },
      h("button", { class: "primary" }, "Save the choice"),
      h("button", { type: "button", onclick: onLeave }, "Go on editing"),
    ),
  );
  const question = {
    taken: () => names.filter((name) => new FormData(form).get(name) === "theirs"),
    // What is typed while the question stands is what will be saved.
    follow: (fields) => yours.forEach((place, name) => (place.textContent = shownAs(name, fields))),
    focus: () => form.querySelector("h2").focus(),
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onChosen(question.taken());
  });
  question.follow(mine);
  replace(place, form);
  return question;
}

function shownAs(name, fields) {
  const text = asText(name, fields[name]);
  return (name === "status" ? words(text) : text) || "(empty)";
}
