// What is live on a page: topics and presence over the client, and whether one may believe what is shown.

import { connect } from "/client.js";

// After these the node does not want this token any more.
const REFUSED = [4401, 4403, 4440];
// So long a page waits to be live before it shows what REST says.
const PATIENCE = 400;

export class Live {
  constructor(session, { onRefused }) {
    this.watchers = new Set();
    this.since = Date.now();
    this.client = connect({ token: session.token });
    this.client.on("state", (state, previous) => {
      // An attempt that fails while catching up does not make what is shown any younger.
      if (state === "live" || previous === "live") this.since = Date.now();
      for (const watcher of this.watchers) watcher(state, this.since);
      if (state === "closed" && REFUSED.includes(this.client.error?.code)) onRefused();
    });
  }

  // Call now and at each change; answers how to stop that.
  watch(call) {
    this.watchers.add(call);
    call(this.client.state, this.since);
    return () => this.watchers.delete(call);
  }

  // `onEvent` for each frame of a topic, once. `read` shows the present state: it is called when the topic is
  // live, so that nothing falls between the two, and again when what was missed cannot be told.
  topic(topic, { onEvent, read }) {
    const subscription = this.client.subscribe(topic);
    subscription.on("event", ({ frame }) => onEvent(frame));
    subscription.on("gap", read);
    const timer = setTimeout(read, PATIENCE);
    const begun = () => {
      clearTimeout(timer);
      read();
    };
    subscription.ready.then(begun, () => {});
    return () => {
      clearTimeout(timer);
      subscription.close();
    };
  }

  // Be present on an episode; `onViewers({ total, viewers })` at each change.
  present(episode, state, onViewers) {
    const presence = this.client.join(episode, { state });
    presence.on("change", onViewers);
    const quietly = (promise) => promise.catch(() => {});
    let now = state;
    const become = (next) => {
      if (next === now) return; // it is asked for at each key that is pressed
      now = next;
      quietly(presence.setState(next));
    };
    return { become, leave: () => presence.leave() };
  }

  close() {
    this.client.close();
  }
}
