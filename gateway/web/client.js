/**
 * Greenroom's JavaScript client: it connects, comes back by itself, and tells each event once.
 *
 * One ES module without dependencies, for `<script type="module">`, bundlers and Node. See docs/javascript.md.
 *
 *     import { connect } from "/client.js";
 *     const client = connect({ getToken: async () => (await fetch("/my/token")).text() });
 *     const episode = client.subscribe("episode:0b54…", { snapshot: true });
 *     for await (const item of episode) console.log(item.type, item);
 *
 * From top to bottom: errors, small parts, one connection, topics, presence, staying connected, the client.
 */

// ---- What the client hands out ----------------------------------------------------------------------------

/** The client cannot do what was asked of it; the message says why. */
export class GreenroomError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The node refused one wish; `code` is one of docs/real-time.md. The client goes on. */
export class RefusedError extends GreenroomError {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The client has ended and will not come back; `code` is the close code, null if its user closed it. */
export class ClosedError extends GreenroomError {
  constructor(code, reason) {
    super(code === null ? reason : `${reason} (close code ${code})`);
    this.code = code;
    this.reason = reason;
  }
}

/** The connection was lost, or time was up, before the node replied: it may have done it, or not. */
export class LostError extends GreenroomError {}

/** An event frame as users get it. @param {object} frame */
function readEvent(frame) {
  return Object.freeze({
    type: "event",
    name: frame.event,
    data: frame.data,
    id: frame.id,
    topic: frame.topic,
    position: readPosition(frame),
    frame,
  });
}

/** A position as a node sends it: it means something to the node only. Keep it, and give it back as `since`. */
function readPosition(given) {
  return given ? Object.freeze({ offset: given.offset, epoch: given.epoch }) : null;
}

function isSamePosition(one, other) {
  return one === other || (one && other && one.offset === other.offset && one.epoch === other.epoch);
}

// ---- Bounds and times (milliseconds, where nothing else is said) ------------------------------------------

const DEFAULTS = Object.freeze({
  /** Between two connections, with full jitter, besides what the node asks for. */
  backoff: { first: 500, cap: 30_000 },
  /** A connection that stood for so long lets the backoff begin anew. */
  steady: 10_000,
  connectTimeout: 10_000,
  /** Between two signs of life; a node that does not answer one in time is given up. */
  pingInterval: 20_000,
  pingTimeout: 10_000,
  /** The same when there is reason to doubt: the device went offline, or the page was asleep. */
  probeTimeout: 3_000,
  /** How long `call` waits for its reply. */
  callTimeout: 30_000,
  /** Items that wait for an iteration; whoever takes none for longer is behind, and recovers. */
  buffer: 256,
  /** A token is replaced so long before its end, or at four fifths of its life if that is later. */
  refreshMargin: 60_000,
});
// After these a client does not come back: it would be refused again for the same reason.
const FINAL_CODES = new Set([4400, 4401, 4403, 4409]);
const TOKEN_EXPIRED = 4440;
const CATALOG = "catalog";
// Event ids to know again: the catalog may tell early as many as its actor lets overtake the feed.
const CATALOG_WINDOW = 10_000;
const WINDOW = 1_000;
// A node takes a burst of messages, and fewer a second after that (limits.message_burst): we stay below it.
const BURST = 50;
const PER_SECOND = 25;
const OUTBOX = 1_000;
// A timer that comes so late says that the page slept, and proves nothing about the node.
const ASLEEP = 1_000;
const MIN_REFRESH = 1_000;
// Browsers fire longer timers at once.
const LONGEST_TIMER = 2 ** 31 - 1;
const TRY_AGAIN = { first: 100, cap: 10_000 };
const LIST_AGAIN = { first: 1_000, cap: 60_000 };
const VIEWERS_PAGE = 200;

// ---- Small parts ------------------------------------------------------------------------------------------

/** Callbacks by name. One that throws stops nobody else. */
class Callbacks {
  #byName = new Map();

  /** Be called; returns the function that ends it. */
  add(name, callback) {
    const entry = { callback };
    const entries = this.#byName.get(name) ?? new Set();
    this.#byName.set(name, entries.add(entry));
    return () => void entries.delete(entry);
  }

  has(name) {
    return (this.#byName.get(name)?.size ?? 0) > 0;
  }

  call(name, ...args) {
    for (const { callback } of [...(this.#byName.get(name) ?? [])]) {
      try {
        callback(...args);
      } catch (error) {
        // A bug of the page's, reported as any other of its bugs.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** A promise to be kept from outside. Nobody has to wait for it. */
class Deferred {
  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => {});
  }
}

/** The event ids heard last, at most `size`: enough to know again what comes twice. */
class Window {
  #ids = new Set();

  constructor(size) {
    this.size = size;
  }

  /** Remember an id; false when it was known. */
  add(id) {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > this.size) this.#ids.delete(this.#ids.values().next().value);
    return true;
  }
}

/** Exponential backoff with full jitter: any time between nothing and the limit, so that crowds spread. */
function delayAfter(failures, { first, cap }) {
  return Math.random() * Math.min(cap, first * 2 ** Math.min(failures, 30));
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What a promise gives; rejects with `late` when that takes longer than `ms`. */
async function within(ms, promise, late) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(late), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** Where a node is: its REST interface and its WebSocket. Throws TypeError. */
function addresses(url) {
  const text = url ?? globalThis.location?.origin;
  let base;
  try {
    base = new URL(text);
  } catch {
    throw new TypeError(`url looks like http://127.0.0.1:8000, not ${JSON.stringify(text)}`);
  }
  const secure = { "http:": false, "ws:": false, "https:": true, "wss:": true }[base.protocol];
  if (secure === undefined) throw new TypeError(`url begins with http:// or https://, not ${base.protocol}//`);
  const path = base.pathname.replace(/(\/real-time)?\/*$/, "");
  return {
    http: `http${secure ? "s" : ""}://${base.host}${path}`,
    socket: `ws${secure ? "s" : ""}://${base.host}${path}/real-time`,
  };
}

// ---- One connection ---------------------------------------------------------------------------------------

/** Lets messages out no faster than a node takes them. */
class Pace {
  #allowed = BURST;
  #at = performance.now();
  #waiting = [];
  #timer = null;
  #send;

  constructor(send) {
    this.#send = send;
  }

  /** Send it now or soon; false when too much waits already. */
  push(text) {
    if (this.#waiting.length >= OUTBOX) return false;
    this.#waiting.push(text);
    this.#flush();
    return true;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  #flush() {
    const now = performance.now();
    this.#allowed = Math.min(BURST, this.#allowed + ((now - this.#at) * PER_SECOND) / 1000);
    this.#at = now;
    while (this.#waiting.length && this.#allowed >= 1) {
      this.#allowed -= 1;
      this.#send(this.#waiting.shift());
    }
    clearTimeout(this.#timer);
    if (this.#waiting.length) this.#timer = setTimeout(() => this.#flush(), 1000 / PER_SECOND);
  }
}

/** Finds out that a node is gone although nobody hung up. */
class Pulse {
  #options;
  #ping;
  #onSilence;
  #timer = null;
  #heardAt = 0;
  #stopped = false;

  constructor(options, ping, onSilence) {
    this.#options = options;
    this.#ping = ping;
    this.#onSilence = onSilence;
    this.#rest();
  }

  /** Something came: the node is there. */
  heard() {
    this.#heardAt = performance.now();
  }

  /** There is reason to doubt it: find out soon. */
  probe() {
    this.#ask(Math.min(this.#options.probeTimeout, this.#options.pingTimeout), true);
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #rest() {
    this.#after(this.#options.pingInterval, () => this.#ask(this.#options.pingTimeout, true));
  }

  #ask(patience, mayHaveSlept) {
    const askedAt = performance.now();
    this.#ping();
    this.#after(patience, () => {
      const isLate = performance.now() - askedAt - patience > ASLEEP;
      // One turn more: after a sleep the timer may come before the answer that lies there already.
      this.#after(0, () => {
        if (this.#heardAt >= askedAt) this.#rest();
        else if (isLate && mayHaveSlept) this.#ask(patience, false);
        else this.#onSilence(`the node did not answer a ping within ${patience / 1000} s`);
      });
    });
  }

  #after(ms, task) {
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(task, ms);
  }
}

/** Own one WebSocket and the requests that wait for a reply on it. Its end loses these and nothing else. */
class Session {
  /** Set once, when it ended: `{code, reason, after (seconds), returns}`. */
  ending = null;
  #socket;
  #on;
  #pace;
  #pulse = null;
  #requests = new Map();
  #refs = 0;
  #timer;

  /** `on` has `welcome(session, message)`, `message(session, message)` and `end(session, ending)`. */
  constructor({ url, token, options, on }) {
    this.#on = on;
    this.options = options;
    this.#socket = new options.WebSocket(url);
    this.#pace = new Pace((text) => this.#socket.send(text));
    this.#timer = setTimeout(
      () => this.abort(`no connection within ${options.connectTimeout / 1000} s`),
      options.connectTimeout,
    );
    this.#socket.onopen = () => {
      if (!this.ending) this.#socket.send(JSON.stringify({ type: "connect", token, ref: "connect" }));
    };
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    // The close event that follows says more than this one.
    this.#socket.onerror = () => {};
    this.#socket.onclose = ({ code, reason }) =>
      this.#end({
        code,
        reason: reason || "the connection broke off",
        after: 0,
        returns: !FINAL_CODES.has(code),
      });
  }

  /**
   * Send a message and wait for its reply. `onOk` is called before anything that follows the reply is heard.
   * Rejects with RefusedError or LostError.
   */
  ask(message, onOk = null) {
    const request = new Deferred();
    if (this.ending) {
      request.reject(new LostError("the connection is gone"));
      return request.promise;
    }
    request.onOk = onOk;
    const ref = ++this.#refs;
    this.#requests.set(ref, request);
    if (!this.#pace.push(JSON.stringify({ ...message, ref }))) {
      this.#requests.delete(ref);
      request.reject(new RefusedError("too_many", `more than ${OUTBOX} messages wait to be sent`));
    }
    return request.promise;
  }

  /** Send a message that nobody waits for. */
  tell(message) {
    if (!this.ending) this.#pace.push(JSON.stringify(message));
  }

  /** There is reason to doubt that the node is still there. */
  probe() {
    this.#pulse?.probe();
  }

  /** Give the connection up. */
  abort(reason) {
    this.#end({ code: null, reason, after: 0, returns: true });
  }

  close() {
    this.#end({ code: null, reason: "closed by this client", after: 0, returns: false });
  }

  #receive(text) {
    if (this.ending) return;
    this.#pulse?.heard();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      this.abort("the node sent what is not JSON");
      return;
    }
    if (message.ref === "connect" && message.type === "ok") this.#welcome(message);
    else if (message.type === "ok" || message.type === "error") this.#reply(message);
    else if (message.type === "bye") {
      this.#end({
        code: message.code,
        reason: message.reason,
        after: Math.max(0, message.reconnect_after || 0),
        returns: message.resume && !FINAL_CODES.has(message.code),
      });
    } else this.#on.message(this, message);
  }

  #welcome(message) {
    clearTimeout(this.#timer);
    this.#pulse = new Pulse(
      this.options,
      () => this.tell({ type: "ping" }),
      (reason) => this.abort(reason),
    );
    this.#pulse.heard();
    this.#on.welcome(this, message);
  }

  #reply(message) {
    const request = this.#requests.get(message.ref);
    if (!request) return;
    this.#requests.delete(message.ref);
    if (message.type === "error") request.reject(new RefusedError(message.code, message.message));
    else {
      request.onOk?.(message);
      request.resolve(message);
    }
  }

  #end(ending) {
    if (this.ending) return;
    this.ending = ending;
    clearTimeout(this.#timer);
    this.#pulse?.stop();
    this.#pace.stop();
    for (const request of this.#requests.values()) {
      request.reject(new LostError("the connection was lost before the node replied"));
    }
    this.#requests.clear();
    this.#socket.close();
    this.#on.end(this, ending);
  }
}

// ---- Topics -----------------------------------------------------------------------------------------------

/**
 * One subscription: what it heard, each event once and in order, for callbacks or for an iteration.
 *
 * Items are `{type: "event", name, data, id, topic, position, frame}`, and `{type: "gap", topic, snapshot,
 * position}` where events were missed for good: the snapshot is how things stand instead.
 *
 * Callbacks (`on`): `event(event)`, `gap(gap)`, `snapshot(snapshot)` whenever the node shows how things
 * stand, `recovered()` when all that was missed during a loss of the connection has been told,
 * `behind()` when an iteration takes too little, `end(error?)`.
 */
export class Subscription {
  topic;
  /** How things stood when the subscription began, if that was wished, or at the last gap. */
  snapshot = null;
  /** Of what was told last: come back with it as `since`, in another page even, and nothing is missed. */
  position;
  #limit;
  #reader;
  #callbacks = new Callbacks();
  #inbox = [];
  #waiting = [];
  #iterating = 0;
  #ready = new Deferred();

  /** Made by `client.subscribe`. */
  constructor(channel, { since = null, snapshot = false, limit }) {
    this.topic = channel.topic;
    this.position = readPosition(since);
    this.#limit = limit;
    this.#reader = new Reader(channel, this.position, snapshot, {
      hasRoom: () => !this.#isQueueing() || this.#inbox.length < limit,
      begin: (begun) => this.#begin(begun),
      put: (item, position) => this.#put(item, position),
      mark: (position) => this.#mark(position),
      recovered: () => this.#callbacks.call("recovered"),
      behind: () => this.#callbacks.call("behind"),
      end: (error) => this.#end(error),
    });
  }

  /**
   * Kept when the node has agreed, with this subscription; broken with RefusedError or ClosedError.
   * @type {Promise<Subscription>}
   */
  get ready() {
    return this.#ready.promise;
  }

  /** Whether everything is told as it happens; false while the connection is lost, or a hole is filled. */
  get isLive() {
    return this.#reader.isListening;
  }

  /** Be called; returns the function that ends it. A subscription with an `event` callback keeps nothing. */
  on(name, callback) {
    return this.#callbacks.add(name, callback);
  }

  /** Iterate over what is heard. Two iterations share it: each item comes to one of them. */
  [Symbol.asyncIterator]() {
    this.#iterating += 1;
    let isOver = false;
    const stop = () => {
      if (!isOver) this.#iterating -= 1;
      isOver = true;
      return { value: undefined, done: true };
    };
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: async () => {
        while (!isOver) {
          const entry = this.#inbox.shift();
          if (entry) {
            if (entry.position) this.position = entry.position;
            if (this.#inbox.length <= this.#limit / 2) this.#reader.hasTaken();
            return { value: entry.item, done: false };
          }
          if (this.#reader.isEnded) {
            stop();
            if (this.#reader.error) throw this.#reader.error;
            break;
          }
          await new Promise((resolve) => this.#waiting.push(resolve));
        }
        return stop();
      },
      return: async () => {
        const done = stop();
        this.#wake();
        return done;
      },
    };
  }

  /** Hear of this topic no more. What was heard and not taken is dropped. */
  close() {
    this.#inbox = [];
    this.#reader.close();
  }

  #isQueueing() {
    return this.#iterating > 0 || !this.#callbacks.has("event");
  }

  #begin({ snapshot, gap, position }) {
    if (snapshot !== null) this.snapshot = snapshot;
    if (gap) this.#put(gap, position);
    else if (position) this.#mark(position);
    if (snapshot !== null) this.#callbacks.call("snapshot", snapshot);
    this.#ready.resolve(this);
  }

  #put(item, position) {
    if (this.#isQueueing()) {
      if (item.type === "gap") this.#forgetGap(item.topic);
      this.#inbox.push({ item, position });
      this.#wake();
    } else if (position) this.position = position;
    this.#callbacks.call(item.type, item);
  }

  /** Gaps wait for no room, so they must not add up: the latest says all of it. */
  #forgetGap(topic) {
    this.#inbox = this.#inbox.filter(({ item }) => item.type !== "gap" || item.topic !== topic);
  }

  #mark(position) {
    if (this.#inbox.length) this.#inbox.at(-1).position = position;
    else this.position = position;
  }

  #end(error) {
    this.#ready.reject(error ?? new ClosedError(null, "the subscription was closed"));
    this.#wake();
    this.#callbacks.call("end", error);
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** How far one subscription has heard its topic: decides what is new to it, and notices what is missing. */
class Reader {
  /** On the present connection, since the node answered. What comes outside of it comes again, in order. */
  isListening = false;
  /** The node has to be asked: at the beginning, on each connection, after a hole. */
  isWanting = true;
  isEnded = false;
  error = null;
  /** Of what was heard last: recovery begins here. */
  heard;
  #channel;
  #to;
  #window;
  #wantsSnapshot;
  #hasBegun = false;
  #isBehind = false;
  // Where the node stood when it began to tell what was missed; null when nothing is being made up for.
  #promised = null;

  constructor(channel, since, wantsSnapshot, to) {
    this.heard = since;
    this.#channel = channel;
    this.#wantsSnapshot = wantsSnapshot;
    this.#to = to;
    this.#window = new Window(channel.topic === CATALOG ? CATALOG_WINDOW : WINDOW);
    channel.add(this);
  }

  get wantsSnapshot() {
    return this.#wantsSnapshot && !this.#hasBegun;
  }

  /** The node is asked. Until it answers, what comes is not listened to. */
  ask() {
    this.isListening = false;
    this.isWanting = false;
    this.#isBehind = false;
  }

  /** The node answers: from now on it tells everything, first of all what was missed, if `recovered`. */
  begin({ recovered, position, snapshot }) {
    if (this.isEnded) return;
    const isGap = !recovered && (this.heard !== null || this.#hasBegun);
    this.#promised = recovered ? position : null;
    if (!recovered) this.heard = position;
    this.isListening = true;
    const gap = isGap ? Object.freeze({ type: "gap", topic: this.#channel.topic, snapshot, position }) : null;
    this.#to.begin({ snapshot, gap, position: recovered ? null : position });
    if (gap) this.#channel.tellGap(gap);
    this.#hasBegun = true;
  }

  /** The node has replied: what was missed has been told. */
  caughtUp() {
    if (this.#promised === null || !this.isListening) return;
    const promised = this.#promised;
    this.#promised = null;
    this.reached(promised);
    if (this.isListening) this.#to.recovered();
  }

  /** Everything up to a position was told. */
  reached(position) {
    if (!this.isListening) return;
    if (!this.#counts(this.#channel.topic)) {
      this.heard = position;
      this.#to.mark(position);
    } else if (this.#distance(position) > 0) this.#lag();
  }

  /** An event came, on this topic or on another one that this one hears of. */
  deliver(event) {
    if (!this.isListening || this.isEnded) return;
    const distance = this.#counts(event.topic) ? this.#distance(event.position) : 1;
    if (distance < 1) return;
    if (distance > 1) {
      this.#lag(); // there is a hole before it; both come again
      return;
    }
    if (!this.#to.hasRoom()) {
      this.isListening = false;
      this.#isBehind = true;
      this.#to.behind();
      return;
    }
    if (!this.#window.add(event.id)) return;
    const position = event.topic === this.#channel.topic ? event.position : null;
    if (position) this.heard = position;
    this.#to.put(event, position);
  }

  /** Another topic's events were missed for good, and this one hears of them, too. */
  passGap(gap) {
    if (this.isListening) this.#to.put(gap, null);
  }

  /** There is room again. */
  hasTaken() {
    if (this.#isBehind) this.#lag();
  }

  /** The connection is gone. */
  lose() {
    this.isListening = false;
    this.isWanting = true;
    this.#promised = null;
  }

  end(error) {
    if (this.isEnded) return;
    this.isEnded = true;
    this.isListening = false;
    this.error = error;
    this.#to.end(error);
  }

  close() {
    if (this.isEnded) return; // and out of the channel, which may have been made anew since
    this.#channel.remove(this);
    this.end(null);
  }

  #counts(topic) {
    // The log of an episode has no holes (docs/real-time.md); of other orders nothing is known here.
    return topic === this.#channel.topic && topic.startsWith("episode:");
  }

  #distance(position) {
    if (this.heard === null) return 1;
    if (this.heard.epoch !== position.epoch) return 2;
    return position.offset - this.heard.offset;
  }

  #lag() {
    this.isListening = false;
    this.isWanting = true;
    this.#isBehind = false;
    this.#channel.recover();
  }
}

/** One topic on the wire: asks the node for all its readers, those at the same position together. */
class Channel {
  #readers = new Set();
  #client;
  // Whom the next `subscribed` answers; null when the node speaks unasked.
  #asking = null;
  #recovering = null;

  /** `client` has `session` (null while there is none), `channels` and `otherReaders(topic)`. */
  constructor(topic, client) {
    this.topic = topic;
    this.#client = client;
  }

  get readers() {
    return [...this.#readers];
  }

  add(reader) {
    this.#readers.add(reader);
    this.recover();
  }

  remove(reader) {
    this.#readers.delete(reader);
    this.#leaveIfEmpty();
  }

  /** Ask for whoever has to be asked for; resolves when nobody has, or the connection is gone. */
  recover() {
    const session = this.#client.session;
    if (session === null) return Promise.resolve();
    if (this.#recovering === null) {
      const recovering = this.#recover(session).then(() => {
        if (this.#recovering !== recovering) return undefined; // of a connection before
        this.#recovering = null;
        this.#leaveIfEmpty();
        return this.#wanting() && this.recover(); // who came just when the others were done
      });
      this.#recovering = recovering;
    }
    return this.#recovering;
  }

  subscribed({ recovered, position, snapshot = null }) {
    const answer = { recovered, position: readPosition(position), snapshot };
    const readers = this.#asking ?? this.readers.filter((reader) => reader.isListening);
    this.#asking = null;
    for (const reader of readers) reader.begin(answer);
  }

  reached(position) {
    for (const reader of this.readers) reader.reached(readPosition(position));
  }

  deliver(event) {
    for (const reader of this.readers) reader.deliver(event);
  }

  tellGap(gap) {
    for (const reader of this.#client.otherReaders(this.topic)) reader.passGap(gap);
  }

  lose() {
    this.#asking = null;
    this.#recovering = null;
    for (const reader of this.readers) reader.lose();
  }

  end(error) {
    for (const reader of this.readers) reader.end(error);
    this.#readers.clear();
  }

  /** Not while an answer is on its way: who subscribes again meanwhile would take it for theirs. */
  #leaveIfEmpty() {
    if (this.#readers.size > 0 || this.#recovering !== null) return;
    this.#client.channels.delete(this.topic);
    this.#client.session?.tell({ type: "unsubscribe", topic: this.topic });
  }

  #wanting() {
    return this.readers.find((reader) => reader.isWanting && !reader.isEnded);
  }

  async #recover(session) {
    let refusals = 0;
    for (let first = this.#wanting(); first && !session.ending; first = this.#wanting()) {
      const group = this.readers.filter(
        (reader) => reader.isWanting && isSamePosition(reader.heard, first.heard),
      );
      for (const reader of group) reader.ask();
      this.#asking = group;
      const message = { type: "subscribe", topic: this.topic };
      message.snapshot = group.some((reader) => reader.wantsSnapshot);
      if (first.heard) message.since = first.heard;
      try {
        await session.ask(message, () => group.forEach((reader) => reader.caughtUp()));
      } catch (error) {
        if (!(error instanceof RefusedError)) return; // the next connection asks again
        this.#asking = null;
        if (error.code === "try_later") {
          for (const reader of group) reader.isWanting = true;
          await sleep(delayAfter(refusals++, TRY_AGAIN));
        } else {
          for (const reader of group) {
            reader.end(error);
            this.remove(reader);
          }
        }
      }
    }
  }
}

// ---- Presence ---------------------------------------------------------------------------------------------

/**
 * Who is present on one episode, while this client is one of them. While the client is not live, it shows
 * who was there last.
 *
 * Callbacks (`on`): `change(presence)`, `end(error?)`.
 */
export class Presence {
  episodeId;
  /** What this client shows of itself: viewing, editing or idle. */
  state;
  name;
  /** How many viewers there are, also where not all of them are known. */
  total = 0;
  /** Whether `viewers` is everyone. Of a crowd a part is told first; the list comes by and by. */
  complete = false;
  /** The first names, and how many others there are: "Alice, Bob and 2 others". */
  summary = { names: [], others: 0 };
  #client;
  #callbacks = new Callbacks();
  #ready = new Deferred();
  #viewers = new Map();
  // The number that the node gave to the latest frame.
  #frame = null;
  // The list that is just coming in, page by page; null between lists.
  #listed = null;
  #isListing = false;
  #joins = 0;
  #isEnded = false;

  /** Made by `client.join`. */
  constructor(client, episodeId, state, name) {
    this.#client = client;
    this.episodeId = episodeId;
    this.state = state;
    this.name = name;
  }

  /**
   * Kept when it is known who is there, with this presence; broken with RefusedError or ClosedError.
   * @type {Promise<Presence>}
   */
  get ready() {
    return this.#ready.promise;
  }

  /** Who is known to be there, in the order of their coming; all sessions of one person are one viewer. */
  get viewers() {
    return [...this.#viewers.values()].sort((one, other) =>
      `${one.viewedAt} ${one.userId}` < `${other.viewedAt} ${other.userId}` ? -1 : 1,
    );
  }

  on(name, callback) {
    return this.#callbacks.add(name, callback);
  }

  /** Show the others another state: viewing, editing or idle. Resolves when they are told. */
  async setState(state) {
    const before = this.state;
    this.state = state;
    try {
      await this.#client.ask(() => (this.#isEnded ? null : this.wish()));
    } catch (error) {
      // Or the next connection would be refused it again.
      if (error instanceof RefusedError && this.state === state) this.state = before;
      throw error;
    }
  }

  /** Be present no more, once everyone has left who joined. */
  leave() {
    this.#joins -= 1;
    if (this.#joins > 0 || this.#isEnded) return;
    this.#client.presences.delete(this.episodeId);
    this.#client.session?.tell({ type: "leave", ...this.#where() });
    this.end(null);
  }

  // For the client.

  joined() {
    this.#joins += 1;
  }

  wish() {
    const named = this.name === null ? {} : { userName: this.name };
    return { type: "presence", ...this.#where(), state: this.state, ...named };
  }

  /** Be present on one more connection; does not reject. */
  async restore(session) {
    for (let refusals = 0; !this.#isEnded && !session.ending; refusals++) {
      try {
        await session.ask(this.wish());
        return;
      } catch (error) {
        if (!(error instanceof RefusedError)) return;
        if (error.code !== "try_later") {
          // The episode is gone, or closed to us: nobody is told any more who is there.
          this.#client.presences.delete(this.episodeId);
          this.end(error);
          return;
        }
      }
      await sleep(delayAfter(refusals, TRY_AGAIN));
    }
  }

  /** A presence frame: everyone, or who came, changed and went, or how many there are. */
  hear(message) {
    const { viewers, joined = [], left = [], version = null, total, summary } = message;
    let complete = message.complete ?? true;
    if (viewers) this.#viewers = new Map(viewers.map((viewer) => [viewer.userId, viewer]));
    else {
      // What was left out once stays left out until there is a list. A client that was behind was told the
      // latest frame only, and sees by the number that others are missing.
      const follows = version === null || this.#frame === null || version === this.#frame + 1;
      complete = complete && follows && this.complete;
      for (const known of [this.#viewers, this.#listed]) {
        for (const viewer of joined) known?.set(viewer.userId, viewer);
        for (const viewer of left) known?.delete(viewer.userId);
      }
    }
    this.#frame = version;
    if (summary) this.summary = summary;
    this.#tell(total ?? this.#viewers.size, complete);
    if (!this.complete) this.#list();
  }

  end(error) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#ready.reject(error ?? new ClosedError(null, "the episode was left"));
    this.#callbacks.call("end", error);
  }

  #where() {
    return { resourceType: "episode", resourceId: this.episodeId };
  }

  #tell(total, complete) {
    this.total = total;
    // A list of another length is not believed.
    this.complete = complete && this.#viewers.size === total;
    this.#ready.resolve(this);
    this.#callbacks.call("change", this);
  }

  /** Ask for everyone, page by page; in a crowd not everybody can do so at each change. */
  async #list() {
    if (this.#isListing) return;
    this.#isListing = true;
    try {
      for (let lists = 0; !this.complete && !this.#isEnded; lists++) {
        await sleep(delayAfter(lists, LIST_AGAIN));
        // Maybe of another connection by now, whose frames did not ask because this was under way.
        const { session } = this.#client;
        if (session === null) return; // the first frame on the next one asks
        this.#listed = new Map();
        for (let after = ""; after !== null; ) {
          const page = { type: "viewers", ...this.#where(), after, limit: VIEWERS_PAGE };
          const reply = await session.ask(page, (found) => this.#addPage(found));
          after = reply.next_after;
        }
      }
    } catch {
      // The connection is gone or the episode was left: what is known then comes by itself.
    } finally {
      this.#isListing = false;
      this.#listed = null;
    }
  }

  #addPage({ viewers, total, next_after: next }) {
    for (const viewer of viewers) this.#listed?.set(viewer.userId, viewer);
    if (next !== null || this.#listed === null) return;
    [this.#viewers, this.#listed] = [this.#listed, null];
    this.#tell(total, true);
  }
}

// ---- Staying connected ------------------------------------------------------------------------------------

/** What happens around the page that a connection should know of. In Node nothing does. */
class Surroundings {
  #ends = [];

  /** `onDoubt()`: the connection may be dead; `onChance()`: it is worth trying now. */
  constructor(onDoubt, onChance) {
    const page = globalThis.document;
    this.#listen(globalThis, "offline", onDoubt);
    this.#listen(globalThis, "online", () => (onDoubt(), onChance(true)));
    for (const [target, name] of [
      [page, "visibilitychange"],
      [page, "resume"],
      [globalThis, "pageshow"],
    ]) {
      this.#listen(target, name, () => {
        if (page?.visibilityState !== "hidden") onDoubt(), onChance(false);
      });
    }
  }

  stop() {
    for (const end of this.#ends) end();
  }

  #listen(target, name, callback) {
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(name, callback);
    this.#ends.push(() => target.removeEventListener(name, callback));
  }
}

/** Asks for tokens: at each connection, and for the session that stands, before its token expires. */
class Tokens {
  /** The one in use. */
  current = null;
  #given;
  #getToken;
  #options;
  #timer = null;
  #fetching = null;

  constructor({ token = null, getToken = null }, options) {
    if ((token === null) === (getToken === null)) {
      throw new TypeError("connect needs either token or getToken");
    }
    this.#given = token;
    this.#getToken = getToken;
    this.#options = options;
  }

  get canRefresh() {
    return this.#getToken !== null;
  }

  /** A new token, or null when nobody is signed in any more; whoever asks meanwhile gets the same one. */
  fetch() {
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = null;
    });
    return this.#fetching;
  }

  /** Replace the session's token in time, and the next one; `expiresAt` in Unix seconds. */
  keepFresh(session, expiresAt) {
    this.stop();
    if (!this.canRefresh || expiresAt === null || expiresAt === undefined) return;
    const left = expiresAt * 1000 - Date.now();
    const wait = Math.max(MIN_REFRESH, left - Math.min(this.#options.refreshMargin, left / 5));
    this.#timer = setTimeout(async () => {
      if (session.ending) return;
      if (wait > LONGEST_TIMER) this.keepFresh(session, expiresAt);
      else this.keepFresh(session, await this.#refresh(session, expiresAt));
    }, Math.min(wait, LONGEST_TIMER));
  }

  stop() {
    clearTimeout(this.#timer);
  }

  async #fetch() {
    const token = async () => (this.canRefresh ? ((await this.#getToken()) ?? null) : this.#given);
    const late = new Error(`getToken took longer than ${this.#options.connectTimeout / 1000} s`);
    this.current = await within(this.#options.connectTimeout, token(), late);
    return this.current;
  }

  async #refresh(session, expiresAt) {
    try {
      const token = await this.fetch();
      if (token === null) return null; // it ends with its token, and then for good
      return (await session.ask({ type: "refresh", token })).expires_at;
    } catch (error) {
      if (error instanceof RefusedError) session.abort(error.message);
      return error instanceof GreenroomError ? null : expiresAt;
    }
  }
}

/** Own the present connection, and come back after each until there is a reason not to. */
class Line {
  state = "connecting";
  /** From the node's welcome on. */
  session = null;
  error = null;
  /** Why the last connection ended, for people; empty while none did. */
  trouble = "";
  #url;
  #options;
  #user;
  #surroundings;
  // Already before the welcome.
  #connection = null;
  #failures = 0;
  #welcomedAt = null;
  #timer = null;
  // While no connection is tried: when it may be at the earliest, and when it will be.
  #notBefore = 0;
  #due = null;

  /** `user` has `restore(session, welcome)`, `hear(message)`, `lose()`, `stateChanged(previous)` and
   *  `end(error)`. */
  constructor(url, tokens, options, user) {
    this.#url = url;
    this.tokens = tokens;
    this.#options = options;
    this.#user = user;
    this.#surroundings = new Surroundings(
      () => this.session?.probe(),
      (isOnline) => this.#hurry(isOnline),
    );
    this.#connect();
  }

  close(error = null) {
    if (this.state === "closed") return;
    this.error = error;
    this.#due = null;
    clearTimeout(this.#timer);
    this.#surroundings.stop();
    this.tokens.stop();
    this.#setState("closed");
    this.#connection?.close();
    this.#user.end(error);
  }

  async #connect() {
    this.#due = null;
    const token = await this.#token();
    if (this.state === "closed" || token === undefined) return;
    if (token === null) {
      this.close(new ClosedError(4401, "getToken has none: nobody is signed in"));
      return;
    }
    this.#welcomedAt = null;
    try {
      this.#connection = new Session({
        url: this.#url,
        token,
        options: this.#options,
        on: {
          welcome: (session, message) => this.#welcome(session, message),
          message: (_, message) => this.#user.hear(message),
          end: (_, ending) => this.#lost(ending),
        },
      });
    } catch (error) {
      this.close(new ClosedError(null, `cannot open a WebSocket to ${this.#url}: ${error.message}`));
    }
  }

  /** The token; undefined when there is none now, and the next attempt is due. */
  async #token() {
    try {
      return await this.tokens.fetch();
    } catch (error) {
      this.#again({ reason: `no token: ${error?.message ?? error}`, after: 0 });
      return undefined;
    }
  }

  async #welcome(session, message) {
    this.session = session;
    this.#welcomedAt = performance.now();
    this.tokens.keepFresh(session, message.expires_at);
    if (this.state === "stale") this.#setState("recovering");
    await this.#user.restore(session, message);
    if (!session.ending) this.#setState("live");
  }

  #lost(ending) {
    this.session = this.#connection = null;
    this.tokens.stop();
    this.#user.lose();
    if (this.state === "closed") return;
    const isExpired = ending.code === TOKEN_EXPIRED && !this.tokens.canRefresh;
    if (!ending.returns || isExpired) {
      this.trouble = ending.reason;
      this.close(new ClosedError(ending.code, ending.reason));
      return;
    }
    const stood = this.#welcomedAt === null ? 0 : performance.now() - this.#welcomedAt;
    if (stood >= this.#options.steady) this.#failures = 0;
    this.#again(ending);
  }

  #again({ reason, after }) {
    if (this.state === "closed") return;
    this.trouble = reason;
    if (this.state !== "connecting") this.#setState("stale");
    const now = performance.now();
    this.#notBefore = now + after * 1000;
    this.#wait(this.#notBefore + delayAfter(this.#failures++, this.#options.backoff) - now);
  }

  #wait(ms) {
    clearTimeout(this.#timer);
    this.#due = performance.now() + ms;
    this.#timer = setTimeout(() => this.#connect(), Math.min(ms, LONGEST_TIMER));
  }

  /** Waiting for the next attempt, and now is a good time: back online, or seen again by somebody. */
  #hurry(isOnline) {
    if (this.#due === null) return;
    const now = performance.now();
    if (isOnline) this.#failures = 0;
    // A whole office comes back online at the same moment.
    const soon = isOnline ? delayAfter(0, this.#options.backoff) : Infinity;
    this.#wait(Math.max(0, this.#notBefore - now, Math.min(this.#due - now, soon)));
  }

  #setState(state) {
    if (this.state === state) return;
    const previous = this.state;
    this.state = state;
    this.#user.stateChanged(previous);
  }
}

// ---- The client -------------------------------------------------------------------------------------------

/**
 * Own what its page wants to hear of and where it is present, over all connections. `connect` makes it.
 *
 * Callbacks (`on`): `state(state, previous)`.
 */
export class Client {
  /** Who the node says we are: `{session, userId, userName, role}`; null before the first welcome. */
  identity = null;
  #line;
  #options;
  #http;
  #callbacks = new Callbacks();
  #channels = new Map();
  #presences = new Map();
  #inner;

  constructor({ url, token, getToken, ...options }) {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, WebSocket: globalThis.WebSocket, fetch: globalThis.fetch, ...given };
    this.#options.backoff = { ...DEFAULTS.backoff, ...given.backoff };
    if (typeof this.#options.WebSocket !== "function") {
      throw new TypeError("there is no WebSocket here: give one as an option (in Node before 22, npm's `ws`)");
    }
    const { http, socket } = addresses(url);
    this.#http = http;
    const tokens = new Tokens({ token, getToken }, this.#options);
    this.#inner = this.#forParts();
    this.#line = new Line(socket, tokens, this.#options, {
      restore: (session, message) => this.#restore(session, message),
      hear: (message) => this.#hear(message),
      lose: () => this.#channels.forEach((channel) => channel.lose()),
      stateChanged: (previous) => this.#callbacks.call("state", this.state, previous),
      end: (error) => this.#end(error),
    });
  }

  /**
   * How much what was told can be trusted now: `connecting` (not connected yet), `live` (everything is told as
   * it happens), `stale` (not connected: it may be old), `recovering` (what was missed is being told), `closed`.
   */
  get state() {
    return this.#line.state;
  }

  /** Why the last connection ended, for people; empty while none did. */
  get trouble() {
    return this.#line.trouble;
  }

  /** Why the client is closed: a ClosedError; null while it is not, or when its page closed it. */
  get error() {
    return this.#line.error;
  }

  /** Be called; returns the function that ends it. */
  on(name, callback) {
    return this.#callbacks.add(name, callback);
  }

  /** Wait for one of these states; rejects with ClosedError if the client ended instead. */
  async waitState(...wanted) {
    while (!wanted.includes(this.state)) {
      this.#checkOpen();
      await new Promise((resolve) => {
        const end = this.on("state", () => (end(), resolve()));
      });
    }
    return this.state;
  }

  /** Wait until everything that was wished before is told live. */
  async ready() {
    await this.waitState("live");
    return this;
  }

  /**
   * Hear of a topic: from a position (`since`) on, or from now; with `snapshot` also how things stand.
   * Several subscriptions to one topic share what comes over the wire.
   */
  subscribe(topic, { since = null, snapshot = false } = {}) {
    this.#checkOpen();
    let channel = this.#channels.get(topic);
    if (!channel) this.#channels.set(topic, (channel = new Channel(topic, this.#inner)));
    return new Subscription(channel, { since, snapshot, limit: this.#options.buffer });
  }

  /**
   * Be present on an episode, on each further connection too; `resource` is its id or `episode:<id>`. Joined
   * several times it is one presence, which ends when it was left as often.
   */
  join(resource, { state = "viewing", name = null } = {}) {
    this.#checkOpen();
    const id = resource.replace(/^episode:/, "");
    let presence = this.#presences.get(id);
    if (!presence) {
      presence = new Presence(this.#inner, id, state, name);
      this.#presences.set(id, presence);
      if (this.#line.session) presence.restore(this.#line.session);
    }
    presence.joined();
    return presence;
  }

  /** Show another state on an episode that was joined. */
  async setState(resource, state) {
    await this.#joined(resource).setState(state);
  }

  /** Who is present on an episode that was joined, as it was told last. */
  viewers(resource) {
    return this.#joined(resource).viewers;
  }

  /**
   * Ask a plugin, once (`name` is `<plugin>.<name>`), for its result: waits for a connection and for the reply,
   * both within `timeout`.
   * Rejects with RefusedError, LostError, ClosedError.
   */
  async call(name, args = null, { timeout = this.#options.callTimeout } = {}) {
    const late = new LostError(`no reply to ${name} within ${timeout / 1000} s`);
    const giveUpAt = performance.now() + timeout;
    const asked = (async () => {
      await this.waitState("live", "recovering");
      if (performance.now() >= giveUpAt) throw late; // told already
      return this.#session().ask({ type: "call", name, args });
    })();
    return (await within(timeout, asked, late)).result ?? null;
  }

  /** How many milliseconds the node takes to reply. */
  async ping() {
    const began = performance.now();
    await this.#ask(() => ({ type: "ping" }));
    return performance.now() - began;
  }

  /**
   * `fetch` of the node's REST interface, with the token: `client.fetch("episodes?limit=20")`. A path without
   * a slash at its beginning is below `/api/v1/`; `json` is sent as the body. With `getToken`, a 401 is tried
   * once more with a new token.
   */
  async fetch(path, { json, ...init } = {}) {
    const url = `${this.#http}${path.startsWith("/") ? "" : "/api/v1/"}${path}`;
    const tokens = this.#line.tokens;
    const send = (token) => {
      if (token === null) throw new ClosedError(4401, "getToken has none: nobody is signed in");
      const headers = new Headers(init.headers);
      headers.set("Authorization", `Bearer ${token}`);
      if (json !== undefined) headers.set("Content-Type", "application/json");
      const body = json === undefined ? init.body : JSON.stringify(json);
      return (0, this.#options.fetch)(url, { ...init, headers, body });
    };
    const response = await send(tokens.current ?? (await tokens.fetch()));
    return response.status === 401 && tokens.canRefresh ? send(await tokens.fetch()) : response;
  }

  /** End in good order: every subscription and presence ends with it. */
  close() {
    this.#line.close();
  }

  #checkOpen() {
    if (this.state === "closed") throw this.error ?? new ClosedError(null, "the client is closed");
  }

  #session() {
    if (this.#line.session === null) throw new LostError("the connection is gone");
    return this.#line.session;
  }

  #joined(resource) {
    const presence = this.#presences.get(resource.replace(/^episode:/, ""));
    if (!presence) throw new RefusedError("not_present", `this client has not joined ${resource}`);
    return presence;
  }

  /** What its parts may use of the client. */
  #forParts() {
    const line = () => this.#line;
    return {
      get session() {
        return line().session;
      },
      channels: this.#channels,
      presences: this.#presences,
      ask: (wish) => this.#ask(wish),
      otherReaders: (topic) => (topic.startsWith("user:") || topic === CATALOG ? [] : this.#catalogReaders()),
    };
  }

  /** Ask on this connection or, as what is asked this way may be said twice, on the next one. */
  async #ask(wish) {
    for (;;) {
      await this.waitState("live", "recovering");
      const message = wish();
      if (message === null) return null;
      try {
        return await this.#session().ask(message);
      } catch (error) {
        if (!(error instanceof LostError)) throw error;
      }
    }
  }

  #catalogReaders() {
    return this.#channels.get(CATALOG)?.readers ?? [];
  }

  async #restore(session, { session: id, userId, userName, role }) {
    this.identity = Object.freeze({ session: id, userId, userName, role });
    if (this.#channels.size === 0) {
      // Whoever subscribes to nothing hears the catalog; this client was not asked to.
      session.tell({ type: "unsubscribe", topic: CATALOG });
    }
    // The catalog first: what is told of an episode from then on, the catalog's subscriptions hear, too.
    const isCatalog = ({ topic }) => Number(topic === CATALOG);
    const channels = [...this.#channels.values()].sort((one, other) => isCatalog(other) - isCatalog(one));
    await Promise.all([
      ...channels.map((channel) => channel.recover()),
      ...[...this.#presences.values()].map((presence) => presence.restore(session)),
    ]);
  }

  #hear(message) {
    if ("event" in message) {
      const event = readEvent(message);
      this.#channels.get(event.topic)?.deliver(event);
      // The catalog leaves out what its session hears from the episode itself; its subscriptions do not.
      if (!event.topic.startsWith("user:")) {
        for (const reader of this.#catalogReaders()) reader.deliver(event);
      }
    } else if (message.type === "subscribed") this.#channels.get(message.topic)?.subscribed(message);
    else if (message.type === "position") this.#channels.get(message.topic)?.reached(message.position);
    else if (message.type === "presence") this.#presences.get(message.resourceId)?.hear(message);
  }

  #end(error) {
    for (const channel of [...this.#channels.values()]) channel.end(error);
    for (const presence of [...this.#presences.values()]) presence.end(error);
    this.#channels.clear();
    this.#presences.clear();
  }
}

/**
 * A client of a node; it connects by itself, and comes back after each loss until it is closed.
 *
 * `url` is the node's (`https://greenroom.example`), by default the page's own. `getToken` is asked for a
 * token at each connection and before one expires; null from it says that nobody is signed in any more. Times
 * among the other options are in milliseconds: `backoff {first, cap}`, `connectTimeout`, `pingInterval`,
 * `pingTimeout`, `probeTimeout`, `callTimeout`, `refreshMargin`, `steady`; `buffer` is a number of items;
 * `WebSocket` and `fetch` take the place of the global ones.
 */
export function connect(options = {}) {
  return new Client(options);
}
