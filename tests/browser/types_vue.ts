// All of the composables, as TypeScript sees them: compiled with --strict, never run.
import * as Vue from "vue";
import { connect } from "../../gateway/web/client.js";
import type { Episode, State } from "../../gateway/web/client.js";
import { ProblemError, createGreenroom } from "../../gateway/web/client-vue.js";
import type { Greenroom } from "../../gateway/web/client-vue.js";

const greenroom: Greenroom = createGreenroom(Vue, connect({ token: "fixed" }));

export async function setup(id: Vue.Ref<string | null>): Promise<string[]> {
  const { state, isLive, trouble } = greenroom.useConnection();
  const now: State = state.value;

  const { episodes, total, isLoading } = greenroom.useEpisodes(() => ({ q: "pilot", sort: "-created_at" }));
  const first: Episode | undefined = episodes.value[0];
  // @ts-expect-error -- there is no such order
  greenroom.useEpisodes({ sort: "colour" });

  const { episode, isDeleted, lastEvent, save } = greenroom.useEpisode(id);
  await save({ title: "New", categories: ["Drama"] });
  // @ts-expect-error -- that is the node's to say
  await save({ version: 7 });

  const { viewers, summary } = greenroom.usePresence(() => id.value, { state: Vue.ref("editing" as const) });
  const { notifications, unread, markRead, markAllRead } = greenroom.useNotifications();
  await markRead(notifications.value[0]!.id);
  await markAllRead();

  const { job, error, cancel, retry } = greenroom.useJob("id");
  await (job.value?.state === "failed" ? retry() : cancel());
  if (error.value instanceof ProblemError) console.log(error.value.status, error.value.fields.title);
  console.log(isLive.value, trouble.value, total.value, isLoading.value, isDeleted.value, unread.value);
  return [now, first?.title ?? "", episode.value?.id ?? "", lastEvent.value?.name ?? "", ...summary.value.names]
    .concat(viewers.value.map(({ userName }) => userName));
}
