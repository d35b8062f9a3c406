alter table plugin_cursors drop column seen_at;
drop index idempotency_keys_created_at;
