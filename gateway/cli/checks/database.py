"""What a node needs of its database: that it answers, its schema, its clock, what plugins left in it."""

import time
from collections.abc import Iterator

import psycopg
from psycopg.conninfo import make_conninfo

from conf.settings import Settings
from engine.errors import StartupError
from engine.store.embedded import running_conninfo
from engine.store.migrate import applied, known
from engine.store.pool import where_is
from gateway.cli.checks.finding import Finding, Grade

CONNECT_TIMEOUT = 5
OLDEST_VERSION = 15
# Seconds that two clocks may differ before tokens and times look wrong.
SKEW = 2.0
# Events behind which a plugin is said to lag.
BEHIND = 1000


def of_database(settings: Settings, plugins: list[str] | None) -> Iterator[Finding]:
    """
    All of it; `plugins` are those that can be loaded.

    An embedded database is looked at only while a node runs it.
    """
    what = "database"
    conninfo = settings.database.url or running_conninfo(settings.node.resolved_data_dir)
    if conninfo is None:
        yield Finding(Grade.NOTE, what, "embedded, and no node runs it now: it was not looked at")
        return
    where = "the database"
    try:
        where = where_is(conninfo)
        with psycopg.connect(make_conninfo(conninfo, connect_timeout=CONNECT_TIMEOUT)) as connection:
            connection.read_only = True
            yield from _of_connection(connection, where, plugins)
    except StartupError as error:
        yield Finding(Grade.WRONG, what, str(error))
    except psycopg.OperationalError as error:
        text = " ".join(str(error).split())
        if settings.database.url:
            yield Finding(
                Grade.WRONG, what, f"{where} cannot be reached: {text}", "see whether it runs there"
            )
        else:
            yield Finding(Grade.NOTE, what, "embedded; its node was killed, and the next start recovers it")


def _of_connection(
    connection: psycopg.Connection, where: str, plugins: list[str] | None
) -> Iterator[Finding]:
    version = connection.info.server_version // 10000
    if version < OLDEST_VERSION:
        yield Finding(
            Grade.WRONG, "database", f"{where} is PostgreSQL {version}", f"use {OLDEST_VERSION} or later"
        )
    else:
        yield Finding(Grade.OK, "database", f"{where} answers; PostgreSQL {version}")
    row = connection.execute("select extract(epoch from clock_timestamp())").fetchone()
    assert row is not None
    skew = abs(float(row[0]) - time.time())
    if skew > SKEW:
        yield Finding(
            Grade.WRONG,
            "clock",
            f"the database's differs from this machine's by {skew:.1f} s",
            "run NTP on both",
        )
    else:
        yield Finding(Grade.OK, "clock", f"the database's differs by {skew:.2f} s")
    yield from _schema(connection)
    if _has(connection, "plugin_cursors"):
        yield from _health(connection, plugins)


def _schema(connection: psycopg.Connection) -> Iterator[Finding]:
    done, ours = applied(connection), known()
    missing = [name for name in ours if name not in done]
    strange = [name for name in done if name not in ours]
    if strange:
        yield Finding(
            Grade.WRONG,
            "migrations",
            f"the database has {', '.join(strange)}, which this release does not know",
            "run the release that made it, or a later one",
        )
    elif missing:
        remedy = "greenroom migrate, or the next start, applies them"
        yield Finding(Grade.NOTE, "migrations", f"{', '.join(missing)} are missing", remedy)
    else:
        yield Finding(Grade.OK, "migrations", f"all {len(ours)} are applied")


def _health(connection: psycopg.Connection, plugins: list[str] | None) -> Iterator[Finding]:
    rows = connection.execute(
        "select plugin, quarantined_at, reason, (select count(*) from (select from events"
        " where (events.xid, events.seq) > (cursor.xid, cursor.seq) limit 10000) as behind)"
        " from plugin_cursors as cursor order by plugin"
    ).fetchall()
    for plugin, quarantined_at, reason, behind in rows:
        what = f"plugin {plugin}"
        if quarantined_at is not None:
            remedy = f"mend it, then greenroom plugins resume {plugin}"
            yield Finding(Grade.WRONG, what, f"in quarantine since {quarantined_at:%F %T}: {reason}", remedy)
        elif plugins is not None and plugin not in plugins:
            text = f"is not loaded, but left a cursor {behind} events behind"
            remedy = "the log is kept for it until retention.removed_plugin_age is over"
            yield Finding(Grade.NOTE, what, text, remedy)
        elif behind > BEHIND:
            yield Finding(Grade.NOTE, what, f"is {behind} events behind")
        else:
            yield Finding(Grade.OK, what, f"runs, {behind} events behind")


def _has(connection: psycopg.Connection, table: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", [table]).fetchone()
    return row is not None and bool(row[0])
