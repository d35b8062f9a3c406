// Draws the OpenAPI document as a page: operations by tag, each with its parameters and schemas.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, { text, className } = {}, children = []) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// A schema with its references followed; `seen` stops one that contains itself.
function resolve(schema, components, seen = []) {
  if (Array.isArray(schema)) return schema.map((item) => resolve(item, components, seen));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    if (seen.includes(name)) return name;
    return resolve(components[name], components, [...seen, name]);
  }
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([key]) => key !== "title")
      .map(([key, value]) => [key, resolve(value, components, seen)]),
  );
}

function block(title, content, components) {
  const schema = content?.["application/json"]?.schema;
  if (!schema) return [];
  return [
    element("p", { text: title }),
    element("pre", { text: JSON.stringify(resolve(schema, components), null, 2) }),
  ];
}

function operation(method, path, described, components) {
  const summary = element("summary", {}, [
    element("code", { className: "method", text: method.toUpperCase() }),
    element("code", { text: `${path} ` }),
    element("span", { className: "what", text: described.summary ?? "" }),
  ]);
  const parts = [element("p", { text: described.description ?? "" })];
  for (const { name, in: place, description, schema } of described.parameters ?? []) {
    const what = [place, description, JSON.stringify(schema)].filter(Boolean).join(" · ");
    parts.push(element("p", {}, [element("code", { text: `${name} ` }), element("span", { text: what })]));
  }
  parts.push(...block("Request", described.requestBody?.content, components));
  for (const [status, response] of Object.entries(described.responses ?? {})) {
    parts.push(...block(`Answer ${status}`, response.content, components));
  }
  return element("details", {}, [summary, ...parts]);
}

function draw(description) {
  const byTag = new Map();
  for (const [path, operations] of Object.entries(description.paths)) {
    for (const method of METHODS.filter((name) => operations[name])) {
      const tag = operations[method].tags?.[0] ?? "other";
      const drawn = operation(method, path, operations[method], description.components?.schemas ?? {});
      byTag.set(tag, [...(byTag.get(tag) ?? []), drawn]);
    }
  }
  return [...byTag].map(([tag, drawn]) => element("section", {}, [element("h2", { text: tag }), ...drawn]));
}

const place = document.getElementById("operations");
try {
  const response = await fetch("/api/v1/openapi.json");
  place.replaceChildren(...draw(await response.json()));
} catch (error) {
  place.textContent = `The OpenAPI document could not be loaded: ${error}`;
}
