// A page without a browser: evaluates what the test sends, one JSON line each way, several at a time.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [clientPath] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const client = pathToFileURL(clientPath);
const page = {
  ...(await import(client)),
  ...(await import(new URL("client-vue.js", client))),
  Vue: await import("vue"),
  /** The official client of Socket.IO. */
  io: (await import("socket.io-client")).io,
  /** The WebSocket of npm's `ws`, for Node before 22. */
  ws: require("ws").WebSocket,
  /** What the test keeps from one evaluation to the next. */
  kept: {},
};
const AsyncFunction = (async () => {}).constructor;

async function evaluate({ id, code, argument }) {
  try {
    const names = Object.keys(page);
    const value = await new AsyncFunction(...names, "argument", code)(...Object.values(page), argument);
    return { id, value: value === undefined ? null : value };
  } catch (error) {
    return { id, error: { name: error.name, message: error.message, code: error.code ?? null } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  evaluate(JSON.parse(line)).then((answer) => process.stdout.write(JSON.stringify(answer) + "\n"));
}
process.exit(0);
