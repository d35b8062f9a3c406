// REST: one function a verb, refusals as Problem. Knows the token, and nothing of pages.

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `the node answered ${status}`);
    this.status = status;
    this.errors = body.errors ?? [];
  }
}

// The node did not answer: it is away, or the network is.
export class Away extends Error {}

const PATIENCE = 15_000;
const AWAY = "The node does not answer. What you entered is kept; try again in a moment.";

export class Api {
  constructor(token, onRefused) {
    this.token = token;
    this.onRefused = onRefused;
  }

  get(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
    const text = new URLSearchParams(given).toString();
    return this.ask("GET", text ? `${path}?${text}` : path);
  }

  post(path, body, headers) {
    return this.ask("POST", path, body, headers);
  }

  // `version` is what the change was decided on: the node refuses with 412 if there is a newer one.
  patch(path, body, version) {
    return this.ask("PATCH", path, body, { "If-Match": `"${version}"` });
  }

  delete(path, version) {
    return this.ask("DELETE", path, undefined, version === undefined ? {} : { "If-Match": `"${version}"` });
  }

  async blob(path) {
    const response = await this.send("GET", path);
    if (!response.ok) throw new Problem(response.status, {});
    return response.blob();
  }

  async ask(method, path, body, headers = {}) {
    const response = await this.send(method, path, body, headers);
    const answer = await this.read(response);
    if (response.ok) return answer;
    if (response.status === 401) this.onRefused?.();
    throw new Problem(response.status, answer ?? {});
  }

  async read(response) {
    let text;
    try {
      text = await response.text();
    } catch (error) {
      throw new Away(AWAY, { cause: error });
    }
    try {
      return text ? JSON.parse(text) : null;
    } catch {
      // A page of what stands between this page and the node.
      throw new Problem(response.status, { detail: `Something other than the node answered, with ${response.status}.` });
    }
  }

  async send(method, path, body, headers = {}) {
    const request = { method, headers: { ...headers }, signal: AbortSignal.timeout(PATIENCE) };
    if (this.token) request.headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) {
      request.headers["Content-Type"] = "application/json";
      request.body = JSON.stringify(body);
    }
    try {
      return await fetch(path.startsWith("/") ? path : `/api/v1/${path}`, request);
    } catch (error) {
      throw new Away(AWAY, { cause: error });
    }
  }
}
