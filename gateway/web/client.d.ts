/** Types of Greenroom's JavaScript client. See docs/javascript.md. */

/** A place in a topic's log: it means something to the node only. Keep it, and give it back as `since`. */
export interface Position {
  readonly offset: number | string;
  readonly epoch: string;
}

/** An event frame, as it came over the wire. */
export interface EventFrame {
  event: string;
  data: Record<string, unknown>;
  namespace: string;
  broadcast: boolean;
  id: string;
  topic: string;
  offset: number;
  epoch: string;
}

/** Something happened. `position` is its place in the log of `topic`. */
export interface LiveEvent<Data = Record<string, any>> {
  readonly type: "event";
  readonly name: string;
  readonly data: Data;
  readonly id: string;
  readonly topic: string;
  readonly position: Position;
  readonly frame: EventFrame;
}

/** Events of `topic` were missed and cannot be had any more. `snapshot` is how things stand instead. */
export interface Gap<Snapshot = any> {
  readonly type: "gap";
  readonly topic: string;
  readonly snapshot: Snapshot | null;
  readonly position: Position | null;
}

export type Item<Snapshot = any> = LiveEvent | Gap<Snapshot>;

export type EpisodeStatus = "draft" | "in_review" | "approved" | "published" | "archived";

/** An episode, as REST and snapshots show it; times as ISO 8601 texts. */
export interface Episode {
  id: string;
  title: string;
  episode_number: number | null;
  description: string | null;
  status: EpisodeStatus;
  categories: string[];
  version: number;
  created_by: string;
  created_at: string;
  updated_at: string;
}

/** A job, as its events and snapshots show it; REST shows more. */
export interface Job {
  id: string;
  type: string;
  state: "queued" | "running" | "retry" | "completed" | "failed" | "cancelled";
  attempt: number;
  max_attempts: number;
  progress: number | null;
  episode_id: string | null;
  error?: string | null;
  result?: unknown;
  [more: string]: unknown;
}

export interface Notification {
  id: string;
  userId: string;
  type: string;
  title: string;
  message: string;
  resourceType: string;
  resourceId: string;
  readAt: string | null;
  createdAt: string;
}

export type PresenceState = "viewing" | "editing" | "idle";

/** A person who is present: all sessions of one person are one viewer. */
export interface Viewer {
  id: string;
  userId: string;
  userName: string;
  resourceType: "episode";
  resourceId: string;
  viewedAt: string;
  lastActive: string;
  isActive: boolean;
  state: PresenceState;
}

/** What the `snapshot` of each kind of topic shows. */
export interface CatalogSnapshot {
  episodes: Episode[];
  total: number;
}
export interface EpisodeSnapshot {
  episode: Episode | null;
  viewers: Viewer[];
  jobs?: Job[];
}
export interface JobsSnapshot {
  jobs: Job[];
}
export interface UserSnapshot {
  notifications: Notification[];
  unread: number;
}
export type SnapshotOf<Topic extends string> = Topic extends "catalog"
  ? CatalogSnapshot
  : Topic extends `episode:${string}`
    ? EpisodeSnapshot
    : Topic extends `user:${string}`
      ? UserSnapshot
      : Topic extends "jobs"
        ? JobsSnapshot
        : any;

/** The client cannot do what was asked of it; the message says why. */
export class GreenroomError extends Error {}

/** The node refused one wish; `code` is one of docs/real-time.md. The client goes on. */
export class RefusedError extends GreenroomError {
  readonly code: string;
  constructor(code: string, message: string);
}

/** The client has ended and will not come back; `code` is the close code, null if its page closed it. */
export class ClosedError extends GreenroomError {
  readonly code: number | null;
  readonly reason: string;
  constructor(code: number | null, reason: string);
}

/** The connection was lost, or time was up, before the node replied: it may have done it, or not. */
export class LostError extends GreenroomError {}

/** How much what was told can be trusted now. */
export type State = "connecting" | "live" | "recovering" | "stale" | "closed";

/** Ends what `on` began. */
export type Off = () => void;

export interface SubscriptionCallbacks<Snapshot> {
  event: (event: LiveEvent) => void;
  gap: (gap: Gap<Snapshot>) => void;
  snapshot: (snapshot: Snapshot) => void;
  recovered: () => void;
  behind: () => void;
  end: (error: GreenroomError | null) => void;
}

/** One subscription: what it heard, each event once and in order, for callbacks or for an iteration. */
export class Subscription<Snapshot = any> implements AsyncIterable<Item<Snapshot>> {
  private constructor();
  readonly topic: string;
  readonly snapshot: Snapshot | null;
  readonly position: Position | null;
  readonly ready: Promise<this>;
  readonly isLive: boolean;
  on<Name extends keyof SubscriptionCallbacks<Snapshot>>(
    name: Name,
    callback: SubscriptionCallbacks<Snapshot>[Name],
  ): Off;
  [Symbol.asyncIterator](): AsyncIterableIterator<Item<Snapshot>>;
  close(): void;
}

export interface PresenceCallbacks {
  change: (presence: Presence) => void;
  end: (error: GreenroomError | null) => void;
}

/** Who is present on one episode, while this client is one of them. */
export class Presence {
  private constructor();
  readonly episodeId: string;
  readonly state: PresenceState;
  readonly name: string | null;
  readonly total: number;
  readonly complete: boolean;
  readonly summary: { readonly names: readonly string[]; readonly others: number };
  readonly viewers: readonly Viewer[];
  readonly ready: Promise<this>;
  on<Name extends keyof PresenceCallbacks>(name: Name, callback: PresenceCallbacks[Name]): Off;
  setState(state: PresenceState): Promise<void>;
  leave(): void;
}

export interface Identity {
  readonly session: string;
  readonly userId: string;
  readonly userName: string;
  readonly role: string;
}

/** Times are in milliseconds. */
export interface Options {
  /** The node's address, by default the page's own origin. */
  url?: string;
  backoff?: { first?: number; cap?: number };
  steady?: number;
  connectTimeout?: number;
  pingInterval?: number;
  pingTimeout?: number;
  probeTimeout?: number;
  callTimeout?: number;
  refreshMargin?: number;
  /** Items that wait for an iteration. */
  buffer?: number;
  /** In place of the global ones. */
  WebSocket?: new (url: string) => any;
  fetch?: typeof globalThis.fetch;
}

export type Credentials =
  | { token: string; getToken?: undefined }
  | {
      token?: undefined;
      /** Asked at each connection and before a token expires; null says that nobody is signed in any more. */
      getToken: () => string | null | Promise<string | null>;
    };

export interface ClientCallbacks {
  state: (state: State, previous: State) => void;
}

export class Client {
  private constructor();
  readonly state: State;
  readonly trouble: string;
  readonly error: ClosedError | null;
  readonly identity: Identity | null;
  on<Name extends keyof ClientCallbacks>(name: Name, callback: ClientCallbacks[Name]): Off;
  waitState(...wanted: State[]): Promise<State>;
  ready(): Promise<this>;
  subscribe<Topic extends string>(
    topic: Topic,
    options?: { since?: Position | null; snapshot?: boolean },
  ): Subscription<SnapshotOf<Topic>>;
  join(resource: string, options?: { state?: PresenceState; name?: string | null }): Presence;
  setState(resource: string, state: PresenceState): Promise<void>;
  viewers(resource: string): readonly Viewer[];
  call<Reply = any>(name: string, args?: unknown, options?: { timeout?: number }): Promise<Reply>;
  ping(): Promise<number>;
  fetch(path: string, init?: RequestInit & { json?: unknown }): Promise<Response>;
  close(): void;
}

/** A client of a node; it connects by itself, and comes back after each loss until it is closed. */
export function connect(options: Options & Credentials): Client;
