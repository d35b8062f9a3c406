// What is live on a page: topics and presence over the client, and whether one may believe what is shown.

import { connect } from "/client.js";

export class Live {
  constructor(session, { onRefused }) {
    this.watchers = new Set();
    this.since = Date.now();
    this.state = "connecting";
    this.client = connect({ url: realTimeUrl(), token: session.token, userName: session.name });
    this.client.on("state", (state) => this.turn(state));
    this.client.on("refused", onRefused);
  }

  turn(state) {
    if (state !== this.state) this.since = Date.now();
    this.state = state;
    for (const watcher of this.watchers) watcher(state, this.since);
  }

  // Call now and at each change; answers how to stop that.
  watch(call) {
    this.watchers.add(call);
    call(this.state, this.since);
    return () => this.watchers.delete(call);
  }

  // `onEvent` for each event of a topic, once; `onLost` when what was missed cannot be told: read it all anew.
  topic(topic, { onEvent, onLost }) {
    const subscription = this.client.subscribe(topic);
    subscription.on("event", onEvent);
    subscription.on("subscribed", ({ recovered, first }) => {
      if (!recovered && !first) onLost?.();
    });
    return () => subscription.close();
  }

  // Be present on an episode; `onViewers({ total, names, viewers })` at each change.
  present(episode, state, onViewers) {
    const presence = this.client.join({ resourceType: "episode", resourceId: episode }, { state });
    presence.on("change", onViewers);
    return { become: (next) => presence.setState(next), leave: () => presence.leave() };
  }

  close() {
    this.client.close();
  }
}

function realTimeUrl() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/real-time`;
}
