-- Of ended jobs that belong to no episode, the newest are found without those of episodes.
create index processing_queue_ended_alone on processing_queue (seq)
    where finished_at is not null and episode_id is null;
