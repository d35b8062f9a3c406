// Who is signed in at this browser tab, and the page where one signs in.

import { Api, Problem } from "./api.js";
import { h, replace } from "./dom.js";

const KEPT = "greenroom.session";

// The token's owner as the token says; the node verifies it, this page only shows it.
export function readToken(token) {
  const part = token.split(".")[1] ?? "";
  const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  const claims = JSON.parse(new TextDecoder().decode(bytes));
  return { token, user: claims.sub, name: claims.name ?? claims.sub, role: claims.role ?? "viewer" };
}

export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? localStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

export function keep(session) {
  sessionStorage.setItem(KEPT, JSON.stringify(session));
  localStorage.setItem(KEPT, JSON.stringify(session));
}

// Another tab may have signed in as somebody else since: that stays.
export function forget({ token }) {
  sessionStorage.removeItem(KEPT);
  if (JSON.parse(localStorage.getItem(KEPT) ?? "null")?.token === token) localStorage.removeItem(KEPT);
}

export const may = (session, least) => {
  const roles = ["viewer", "editor", "operator"];
  return roles.indexOf(session.role) >= roles.indexOf(least);
};

export async function signInPage(place, { onSignedIn, reason = "" }) {
  const problem = h("p", { class: "problem", role: "alert" }, reason);
  const card = h("main", { id: "main", class: "sign-in", tabindex: "-1" });
  replace(place, card);
  let ways = { local: false, reason: "" };
  try {
    ways = await new Api().get("sign-in");
  } catch (error) {
    problem.textContent = error.message;
  }
  replace(
    card,
    h("h1", {}, h("img", { src: "/console/icon.svg", alt: "", width: 28, height: 28 }), "Greenroom"),
    ways.local ? byName(onSignedIn, problem) : h("p", { class: "quiet" }, ways.reason),
    byToken(onSignedIn, problem, !ways.local),
    problem,
  );
  card.querySelector("input")?.focus();
}

function byName(onSignedIn, problem) {
  const name = h("input", { name: "name", autocomplete: "name", required: true, maxlength: 200, value: "Alice" });
  const roles = h(
    "fieldset",
    { class: "choices" },
    h("legend", {}, "Role"),
    ...[
      ["viewer", "reads"],
      ["editor", "also writes"],
      ["operator", "also runs the node"],
    ].map(([role, does]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: "role", value: role, checked: role === "operator" }),
        h("span", {}, role),
        h("small", {}, does),
      ),
    ),
  );
  const form = h(
    "form",
    { class: "stack" },
    h("label", { class: "field" }, h("span", {}, "Your name"), name),
    roles,
    h("button", { class: "primary" }, "Sign in"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const role = new FormData(form).get("role");
    await attempt(problem, async () => onSignedIn(await new Api().post("sign-in", { name: name.value, role })));
  });
  return form;
}

function byToken(onSignedIn, problem, open) {
  const token = h("textarea", { name: "token", rows: 3, required: true, spellcheck: "false", autocomplete: "off" });
  const form = h(
    "form",
    { class: "stack" },
    h("label", { class: "field" }, h("span", {}, "Token"), token),
    h("p", { class: "quiet" }, "Made by your identity provider, or by ", h("code", {}, "greenroom token"), "."),
    h("button", {}, "Sign in with the token"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await attempt(problem, async () => {
      const session = tokenOf(token.value.trim());
      await new Api(session.token).get("notifications", { limit: 1 });
      onSignedIn(session);
    });
  });
  return h("details", { open }, h("summary", {}, "Use a token"), form);
}

function tokenOf(text) {
  try {
    return readToken(text);
  } catch {
    throw new Problem(400, { detail: "This is no token: three parts with dots between are expected." });
  }
}

async function attempt(problem, call) {
  problem.textContent = "";
  try {
    await call();
  } catch (error) {
    problem.textContent = error.message;
  }
}
