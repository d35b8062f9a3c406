drop table effect_failures, plugin_cursors, user_presence, nodes, user_logs, audit_logs, notifications, activity_logs,
    idempotency_keys, events, compositions, episodes, engine_meta;
