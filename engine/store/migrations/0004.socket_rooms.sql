-- Where Socket.IO clients are present, by the secret that they return with after an interruption.

-- depends: 0003.composition_images

create table socket_rooms (
    id         text primary key,
    user_id    text not null,
    -- What each episode was joined with, by its id; null: the client has left for good.
    rooms      jsonb,
    touched_at timestamptz not null
);
create index socket_rooms_touched on socket_rooms (touched_at);
