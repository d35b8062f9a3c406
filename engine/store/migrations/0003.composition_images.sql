-- depends: 0002.jobs

-- What a composition looked like when it was last drawn. A picture is compressed already.
create table composition_images (
    composition_id uuid primary key references compositions (id) on delete cascade,
    -- The composition's, at the time.
    version        integer not null,
    png            bytea not null,
    -- The beginning of the picture's SHA-256 in hexadecimal.
    digest         text not null,
    drawn_at       timestamptz not null
);
alter table composition_images alter column png set storage external;
