/** Types of Greenroom's composables for Vue 3. See docs/javascript.md. */
import type { ComputedRef, MaybeRefOrGetter, Ref, ShallowRef } from "vue";
import type {
  Client,
  Episode,
  EpisodeStatus,
  GreenroomError,
  Job,
  LiveEvent,
  Notification,
  PresenceState,
  State,
  Viewer,
} from "./client.js";

/** What REST answered with, if it was a refusal. `fields` has, by field, what is wrong with it. */
export class ProblemError extends Error {
  constructor(status: number, problem: Record<string, any>);
  readonly status: number;
  readonly problem: Record<string, any>;
  readonly fields: Record<string, string>;
}

export interface EpisodeQuery {
  status?: EpisodeStatus | null;
  category?: string | null;
  q?: string | null;
  sort?: "created_at" | "-created_at" | "episode_number" | "title" | "updated_at" | null;
  limit?: number | null;
}

export type Failure = GreenroomError | ProblemError | Error;

/** Fields of an episode that `save` may change. */
export type EpisodeChanges = Partial<
  Pick<Episode, "title" | "episode_number" | "description" | "status" | "categories">
>;

export interface Greenroom {
  client: Client;
  useConnection(): { state: Ref<State>; trouble: Ref<string>; isLive: ComputedRef<boolean> };
  useEpisodes(query?: MaybeRefOrGetter<EpisodeQuery>): {
    episodes: ShallowRef<Episode[]>;
    total: Ref<number>;
    isLoading: Ref<boolean>;
    error: ShallowRef<Failure | null>;
  };
  useEpisode(id: MaybeRefOrGetter<string | null>): {
    episode: ShallowRef<Episode | null>;
    isDeleted: Ref<boolean>;
    error: ShallowRef<Failure | null>;
    lastEvent: ShallowRef<LiveEvent | null>;
    save(fields: EpisodeChanges): Promise<Episode>;
  };
  usePresence(
    id: MaybeRefOrGetter<string | null>,
    options?: { state?: MaybeRefOrGetter<PresenceState>; name?: string | null },
  ): {
    viewers: ShallowRef<readonly Viewer[]>;
    total: Ref<number>;
    summary: ShallowRef<{ readonly names: readonly string[]; readonly others: number }>;
    error: ShallowRef<Failure | null>;
  };
  useNotifications(): {
    notifications: ShallowRef<Notification[]>;
    unread: Ref<number>;
    error: ShallowRef<Failure | null>;
    markRead(id: string): Promise<void>;
    markAllRead(): Promise<void>;
  };
  useJob(id: MaybeRefOrGetter<string | null>): {
    job: ShallowRef<Job | null>;
    error: ShallowRef<Failure | null>;
    cancel(): Promise<unknown>;
    retry(): Promise<unknown>;
  };
}

/** The composables for one client; `Vue` is Vue 3's module: `import * as Vue from "vue"`. */
export function createGreenroom(Vue: typeof import("vue"), client: Client): Greenroom;
