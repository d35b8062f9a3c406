// Who is looking at the same episode: "Viewing with: Alice, Bob and 2 others".

import { h, replace } from "./dom.js";

const NAMED = 2;

export class PresenceLine {
  constructor(session) {
    this.session = session;
    this.element = h("p", { class: "presence", "aria-live": "polite" });
    this.show({ total: 0, viewers: [] });
  }

  // `viewers` are those that are known, `total` all that are there: of a crowd only some are told.
  show({ total, viewers }) {
    const others = viewers.filter((viewer) => viewer.userId !== this.session.user);
    const isHere = others.length < viewers.length;
    const count = Math.max(0, total - (isHere || total > viewers.length ? 1 : 0));
    const named = others.slice(0, NAMED).map(({ userName, state }) => h("bdi", { class: "person", "data-state": state }, userName));
    const editing = others.filter(({ state }) => state === "editing").map(({ userName }) => userName);
    this.element.hidden = count === 0;
    replace(
      this.element,
      "Viewing with: ",
      ...sentence(named, count - named.length),
      editing.length > 0 && h("span", { class: "editing" }, `${editing.slice(0, NAMED).join(", ")} ${editing.length > 1 ? "are" : "is"} editing`),
    );
  }
}

function sentence(named, rest) {
  const parts = [...named];
  if (rest > 0) parts.push(`${rest} ${rest === 1 ? "other" : "others"}`);
  return parts.flatMap((part, index) => {
    if (index === 0) return [part];
    return [index === parts.length - 1 ? " and " : ", ", part];
  });
}
