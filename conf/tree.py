"""The tree of settings, as the engine sees it. Every default is in default.toml, next to what it means."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import platformdirs

from conf.kinds import (
    Count,
    CountOrZero,
    Flag,
    Fraction,
    HttpUrl,
    JobTypes,
    Kind,
    Live,
    Names,
    Networks,
    Origins,
    SomeText,
    Text,
    choice,
    some_of,
    whole,
)
from conf.masks import DATABASE_URL, SECRET, mask_tables
from conf.units import Duration, DurationOrZero, Size, duration

_RESTARTS = choice("permanent", "transient", "temporary")
_LEVELS = choice("debug", "info", "warning", "error", "critical")


def _read_tables(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError(value)
    return value


@attrs.frozen(kw_only=True)
class Node:
    """
    This process: where it keeps its data, what it is called, how long it takes to stop.
    """

    data_dir: Text
    name: Text
    shutdown_grace: Live[DurationOrZero]

    @property
    def resolved_data_dir(self) -> Path:
        """
        Where this node keeps what must survive it: `data_dir`, or the platform's place if that is empty.
        """
        if self.data_dir:
            return Path(self.data_dir).expanduser()
        if os.geteuid() == 0:
            return Path("/var/lib/greenroom")
        return platformdirs.user_data_path("greenroom")

    @property
    def resolved_name(self) -> str:
        """
        What this node is called: `name`, or host name and process id if that is empty.
        """
        return self.name or f"{socket.gethostname()}-{os.getpid()}"


@attrs.frozen(kw_only=True)
class Server:
    """
    The one port that everything is served on.
    """

    host: SomeText
    port: Annotated[int, whole(0, 65535)]
    backlog: Annotated[int, whole(1, 65535)]
    handshake_queue: Live[Count]
    handshake_timeout: Live[Duration]
    keep_alive: Live[Duration]
    header_timeout: Live[Duration]
    body_timeout: Live[Duration]
    write_timeout: Live[Duration]
    max_body: Live[Size]
    max_header: Live[Size]
    tls_certificate: Text
    tls_key: Text
    trusted_proxies: Live[Networks]
    require_if_match: Live[Flag]
    reconnect_after: Live[DurationOrZero]
    reconnect_window: Live[DurationOrZero]


@attrs.frozen(kw_only=True)
class Database:
    """
    Where the truth is: a PostgreSQL elsewhere, or the embedded one.
    """

    url: Annotated[str, DATABASE_URL] = attrs.field(repr=DATABASE_URL.show)
    pool_size: Count
    background_pool_size: Count
    # PostgreSQL counts milliseconds in 32 bits and refuses more than 596 hours.
    statement_timeout: Live[Annotated[float, duration(most=3600)]]
    embedded_run_as: SomeText


@attrs.frozen(kw_only=True)
class Auth:
    """
    How tokens are verified, and what follows from them.
    """

    secret: Annotated[str, SECRET] = attrs.field(repr=SECRET.show)
    jwks_file: Text
    issuer: Live[Text]
    audience: Live[Text]
    leeway: Live[DurationOrZero]
    role_claim: Live[SomeText]
    default_role: Live[SomeText]
    token_cache: Live[CountOrZero]
    connect_timeout: Live[Duration]
    local_sign_in: Live[Flag]


@attrs.frozen(kw_only=True)
class Limits:
    """
    What one user, one session and one node may ask for.
    """

    sessions: Live[Count]
    sessions_per_user: Live[Count]
    subscriptions_per_session: Live[Count]
    requests_per_second: Live[Count]
    request_burst: Live[Count]
    messages_per_second: Live[Count]
    message_burst: Live[Count]
    max_message: Live[Size]


@attrs.frozen(kw_only=True)
class Realtime:
    """
    How much and how long a connection may lag, and what a returning client can be replayed.
    """

    outlet_backlog: Live[Size]
    outlet_deadline: Live[Duration]
    ping_interval: Live[Duration]
    ping_timeout: Live[Duration]
    replay_ring: Live[Count]
    replay_limit: Live[Count]
    replay_size: Live[Size]
    position_interval: Live[Duration]
    position_check: Live[Duration]


@attrs.frozen(kw_only=True)
class Socketio:
    """
    How Socket.IO clients are served, beside what holds for all sessions.
    """

    ping_interval: Live[Duration]
    ping_timeout: Live[Duration]
    max_payload: Live[Size]
    connect_timeout: Live[Duration]
    upgrade_timeout: Live[Duration]
    transports: Live[Annotated[tuple[str, ...], some_of("polling", "websocket")]]
    allowed_origins: Live[Origins]
    recovery: Live[Flag]


@attrs.frozen(kw_only=True)
class Presence:
    """
    How often who is here is told and written down.
    """

    tick: Live[Duration]
    write_behind: Live[Duration]
    reload_grace: Live[DurationOrZero]
    heartbeat: Live[Duration]
    active_for: Live[Duration]
    diff_size: Live[Count]


@attrs.frozen(kw_only=True)
class Feed:
    """
    How the event log is read.
    """

    poll: Live[Duration]
    batch: Live[Count]


@attrs.frozen(kw_only=True)
class Retention:
    """
    How long the event log and what was recorded are kept.
    """

    events_age: Live[Duration]
    events_per_topic: Live[Count]
    removed_plugin_age: Live[Duration]
    activity_age: Live[DurationOrZero]
    activity_count: Live[Count]
    notifications_age: Live[DurationOrZero]
    notifications_per_user: Live[Count]
    audit_age: Live[DurationOrZero]
    audit_count: Live[Count]
    jobs_age: Live[DurationOrZero]
    jobs_per_topic: Live[Count]
    idempotency_age: Live[Duration]
    interval: Live[Duration]


# Options of [plugins] that a plugin may have for itself, in [plugins.<name>].
BUDGETS = (
    "decision_budget",
    "effect_budget",
    "transaction_budget",
    "life_cycle_budget",
    "notice_budget",
    "answer_budget",
    "answers_at_once",
    "socket_budget",
    "batch",
    "linger",
    "failures_to_quarantine",
)


@attrs.frozen(kw_only=True)
class Plugins:
    """
    Which plugins run, within which budgets, and what they are told.
    """

    enabled: Names
    discover: Flag
    decision_budget: Live[Duration]
    effect_budget: Live[Duration]
    transaction_budget: Live[Duration]
    life_cycle_budget: Live[Duration]
    notice_budget: Live[Duration]
    answer_budget: Live[Duration]
    answers_at_once: Live[Count]
    socket_budget: Live[Duration]
    batch: Live[Count]
    linger: Live[DurationOrZero]
    failures_to_quarantine: Live[Count]
    block_limit: Live[Duration]
    # The tables [plugins.<name>], for each plugin to check: only it knows what it may be told.
    settings: Annotated[Mapping[str, Mapping[str, object]], Kind(wanted="tables", read=_read_tables)] = (
        attrs.field(repr=mask_tables)
    )

    def of(self, plugin: str) -> "Plugins":
        """
        The same with the budgets that this plugin has for itself.
        """
        own = self.settings.get(plugin, {})
        changes: dict[str, Any] = {name: value for name, value in own.items() if name in BUDGETS}
        return attrs.evolve(self, **changes)


@attrs.frozen(kw_only=True)
class Jobs:
    """
    How many jobs this node runs, and how sure of them it may be.
    """

    concurrency: Live[CountOrZero]
    lease: Live[Annotated[float, duration(least=1)]]
    poll: Live[Duration]
    transaction_budget: Live[Duration]
    transactions: Count
    external_types: Live[JobTypes]


@attrs.frozen(kw_only=True)
class Sqs:
    """
    The queue of SQS that jobs come from, if there is one, and how it is read.
    """

    queue_url: HttpUrl
    region: Text
    endpoint: HttpUrl
    # SQS itself waits no longer. A poll cannot be broken off: the node's end waits for it.
    wait: Annotated[float, duration(most=20)]
    request_timeout: Duration
    # SQS itself knows no longer one.
    visibility_timeout: Annotated[float, duration(most=43_200)]
    in_flight: Count
    lease: Duration


@attrs.frozen(kw_only=True)
class Child:
    """
    How one kind of child is restarted, and how much it may hold.
    """

    restart: Live[Annotated[Literal["permanent", "transient", "temporary"], _RESTARTS]]
    max_restarts: Live[CountOrZero]
    within: Live[Duration]
    backoff_first: Live[DurationOrZero]
    backoff_cap: Live[DurationOrZero]
    backoff_jitter: Live[Fraction]
    mailbox: Live[Count]
    idle: Live[Duration]
    grace: Live[DurationOrZero]
    cool_down: Live[DurationOrZero]


@attrs.frozen(kw_only=True)
class Supervision:
    """
    One `Child` for every kind of child in the supervision tree.
    """

    episode: Child
    catalog: Child
    feed: Child
    plugin: Child
    job: Child
    poller: Child
    gateway: Child
    presence: Child
    database: Child


@attrs.frozen(kw_only=True)
class Tracing:
    """
    Where spans go.
    """

    endpoint: Text
    sample: Fraction


@attrs.frozen(kw_only=True)
class Log:
    """
    What is logged, and in which form.
    """

    level: Live[Annotated[Literal["debug", "info", "warning", "error", "critical"], _LEVELS]]
    format: Live[Annotated[Literal["auto", "json", "people"], choice("auto", "json", "people")]]


@attrs.frozen(kw_only=True)
class Settings:
    """
    Every setting of a node: durations in seconds, sizes in bytes. `conf.settings.load` makes it.
    """

    node: Node
    server: Server
    database: Database
    auth: Auth
    limits: Limits
    realtime: Realtime
    socketio: Socketio
    presence: Presence
    feed: Feed
    retention: Retention
    plugins: Plugins
    jobs: Jobs
    sqs: Sqs
    supervision: Supervision
    tracing: Tracing
    log: Log
