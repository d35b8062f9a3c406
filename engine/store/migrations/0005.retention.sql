-- What is no longer kept is found by its age; a cursor that no node has seen for long holds nothing up.
create index idempotency_keys_created_at on idempotency_keys (created_at);
alter table plugin_cursors add column seen_at timestamptz not null default now();
