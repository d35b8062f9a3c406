// All of the client, as TypeScript sees it: compiled with --strict, never run.
import { ClosedError, Client, LostError, Presence, RefusedError, Subscription, connect } from "../../gateway/web/client.js";
import type { Episode, Gap, Item, LiveEvent, Notification, Position, State, Viewer } from "../../gateway/web/client.js";

const client: Client = connect({
  url: "https://greenroom.example",
  getToken: async () => "token",
  backoff: { first: 500, cap: 30_000 },
  buffer: 10,
  WebSocket,
  fetch,
});
connect({ token: "fixed" });
// @ts-expect-error -- either a token or a way to get one
connect({ url: "https://greenroom.example" });
// @ts-expect-error -- not both
connect({ token: "fixed", getToken: () => null });

export async function page(since: Position): Promise<void> {
  const off: () => void = client.on("state", (state: State, previous) => console.log(state, previous));
  off();
  // @ts-expect-error -- there is no such callback
  client.on("stat", () => {});
  const live: State = await client.waitState("live", "recovering");
  await (await client.ready()).ping();

  const episode = client.subscribe(`episode:${since.epoch}`, { since, snapshot: true });
  episode.on("event", (event: LiveEvent) => console.log(event.name, event.data.episode, event.frame.offset));
  episode.on("gap", (gap: Gap) => console.log(gap.topic, gap.position));
  episode.on("snapshot", ({ episode, viewers }) => {
    const title: string | undefined = episode?.title;
    const names: string[] = viewers.map((viewer: Viewer) => viewer.userName);
    console.log(title, names);
  });
  episode.on("recovered", () => {});
  episode.on("behind", () => {});
  episode.on("end", (error) => console.log(error?.message));
  const agreed: Subscription = await episode.ready;
  console.log(agreed.topic, episode.isLive, episode.position?.offset, live);
  episode.close();

  const list = await client.subscribe("catalog", { snapshot: true }).ready;
  const first: Episode | undefined = list.snapshot?.episodes[0];
  const inbox = client.subscribe("user:alice@example.com", { snapshot: true });
  const unread: Notification[] | undefined = inbox.snapshot?.notifications;
  console.log(first, unread);
  for await (const item of list) {
    const each: Item = item;
    if (item.type === "gap") console.log(item.snapshot?.total);
    else console.log(item.id, each.topic);
  }

  const presence: Presence = await client.join("id", { state: "viewing", name: "Alice" }).ready;
  presence.on("change", ({ viewers, total, complete, summary }) =>
    console.log(viewers[0]?.isActive, total, complete, summary.names, summary.others),
  );
  await presence.setState("editing");
  // @ts-expect-error -- there is no such state
  await client.setState("id", "sleeping");
  presence.leave();
  console.log(client.viewers("id").length, client.identity?.userId, client.trouble, client.error?.reason);

  const reply = await client.call<{ pong: boolean }>("ping", { any: "thing" }, { timeout: 1000 });
  const pong: boolean = reply.pong;
  const response: Response = await client.fetch("episodes", { method: "POST", json: { title: "Pilot" } });
  console.log(pong, response.status);
  client.close();
}

export function explain(error: unknown): string {
  if (error instanceof RefusedError) return error.code;
  if (error instanceof ClosedError) return `${error.code} ${error.reason}`;
  return error instanceof LostError ? error.message : "";
}
