"""Migrating: the schema comes out as written down, once, whatever happens meanwhile."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import engine.store
from engine.errors import StartupError
from engine.store.migrate import ADVISORY_LOCK, migrate

SCHEMA = (Path(engine.store.__file__).parent / "schema.sql").read_text("utf-8")
PATIENCE = 30
ALL = [
    "0001.initial",
    "0002.jobs",
    "0003.composition_images",
    "0004.socket_rooms",
    "0005.retention",
    "0006.mutations",
    "0007.ended_jobs",
]
# The lock at which a test stops a migration.
BARRIER = 42

TABLES = (
    "select oid from pg_class where relnamespace = 'public'::regnamespace and relname not like '%%yoyo%%'"
)
CATALOGS = {
    "relations": f"select relname, relkind, relpersistence from pg_class where oid in ({TABLES})",
    "columns": f"""
        select attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull,
               attidentity, attgenerated, pg_get_expr(adbin, adrelid), attcollation
        from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attrelid in ({TABLES}) and attnum > 0""",
    "constraints": f"""
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where conrelid in ({TABLES})""",
    "indexes": f"select pg_get_indexdef(indexrelid) from pg_index where indrelid in ({TABLES})",
    "sequences": """
        select seqrelid::regclass::text, seqtypid::regtype::text,
               seqstart, seqincrement, seqmax, seqmin, seqcycle
        from pg_sequence""",
    "functions": "select proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace",
    "triggers": f"""
        select pg_get_triggerdef(oid) from pg_trigger where tgrelid in ({TABLES}) and not tgisinternal""",
}


def catalogs(conninfo: str) -> dict[str, list]:
    """
    Everything that makes up the schema, without what the migration tool keeps for itself.
    """
    with psycopg.connect(conninfo) as connection:
        found = {name: connection.execute(query).fetchall() for name, query in CATALOGS.items()}
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


@pytest.fixture
def fresh_database(empty_database: str) -> Iterator[str]:
    """
    A database made from schema.sql.
    """
    name = psycopg.conninfo.conninfo_to_dict(empty_database)["dbname"] + "_fresh"
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        conninfo = make_conninfo(empty_database, dbname=name)
        with psycopg.connect(conninfo) as fresh:
            fresh.execute(SCHEMA)
        yield conninfo
        connection.execute(f"drop database {name} with (force)")


def test_a_migrated_schema_equals_a_fresh_one(empty_database, fresh_database):
    """
    schema.sql, which people read, says what the migrations make.
    """
    assert migrate(empty_database)
    migrated, fresh = catalogs(empty_database), catalogs(fresh_database)
    assert {len(rows) for name, rows in migrated.items() if name in ("columns", "indexes")} != {0}
    assert migrated == fresh


@pytest.mark.parametrize(
    "difference",
    [
        "create table more (id int)",
        "alter table episodes add column more int",
        "alter table episodes alter column title type varchar(200)",
        "alter table episodes alter column title drop not null",
        "alter table episodes alter column categories drop default",
        "alter table episodes drop constraint episodes_status_check",
        "alter table compositions drop constraint compositions_episode_id_fkey",
        "drop index episodes_title",
        "alter table events alter column seq drop identity",
        "alter sequence events_seq_seq increment by 2",
    ],
)
def test_no_difference_escapes_the_comparison(fresh_database, difference):
    """
    The test above can fail, and would for each of these.
    """
    before = catalogs(fresh_database)
    with psycopg.connect(fresh_database) as connection:
        connection.execute(difference)
    assert catalogs(fresh_database) != before


def test_migrating_twice_changes_nothing(empty_database):
    """
    Every start of a node does it; the epoch stays, and so the positions that clients hold.
    """
    assert migrate(empty_database) == ALL
    before = catalogs(empty_database)
    with psycopg.connect(empty_database) as connection:
        epoch = connection.execute("select * from engine_meta").fetchall()
        assert migrate(empty_database) == []
        assert connection.execute("select * from engine_meta").fetchall() == epoch
    assert len(epoch) == 2
    assert catalogs(empty_database) == before


def wait_until(connection: psycopg.Connection, waiting: int, lock: int) -> None:
    """
    Wait until so many others wait for an advisory lock.
    """
    query = "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = %s::bigint"
    until = time.monotonic() + PATIENCE
    while connection.execute(query, [lock & 0xFFFFFFFF]).fetchone() != (waiting,):
        assert time.monotonic() < until, f"nobody waits for the lock {lock}"
        time.sleep(0.01)


def test_two_nodes_that_migrate_at_once_migrate_once(empty_database):
    """
    One does it, the other finds nothing to do; both start.
    """
    with (
        ThreadPoolExecutor(2) as threads,
        psycopg.connect(empty_database, autocommit=True) as connection,
    ):
        connection.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])
        nodes = [threads.submit(migrate, empty_database) for _ in range(2)]
        wait_until(connection, 2, ADVISORY_LOCK)
        connection.execute("select pg_advisory_unlock(%s)", [ADVISORY_LOCK])
        assert sorted(node.result(PATIENCE) for node in nodes) == [[], ALL]


# Stops a migration where the test wants it: at the making of a table, or at the note that it was applied.
STOP = """
create function stop() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(42); return new; end $$;
create function stop_at() returns event_trigger language plpgsql as $$
    begin
        if exists (select from pg_event_trigger_ddl_commands() where object_identity = '{table}') then
            perform pg_advisory_xact_lock_shared(42);
        elsif exists (select from pg_event_trigger_ddl_commands()
                      where object_identity = 'public._yoyo_migration') and '{table}' = '' then
            create trigger stop before insert on _yoyo_migration for each row execute function stop();
        end if;
    end $$;
create event trigger stop_at on ddl_command_end when tag in ('CREATE TABLE') execute function stop_at();
"""


@pytest.mark.parametrize("table", ["public._yoyo_log", "public.events", ""])
def test_a_migration_that_is_killed_leaves_nothing_half_done(empty_database, fresh_database, table):
    """
    kill -9 while tables are made, or just before they are noted as made: the next start makes them all.
    """
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(STOP.format(table=table))
        connection.execute("select pg_advisory_lock(%s)", [BARRIER])
        code = "import sys; from engine.store.migrate import migrate; migrate(sys.argv[1])"
        node = subprocess.Popen([sys.executable, "-c", code, empty_database], cwd=Path(__file__).parents[2])
        try:
            wait_until(connection, 1, BARRIER)
        finally:
            node.kill()
            node.wait()
        connection.execute("select pg_advisory_unlock(%s)", [BARRIER])
        connection.execute("drop event trigger stop_at")
        assert migrate(empty_database) == ALL
        connection.execute("drop function stop cascade")
        connection.execute("drop function stop_at")
        assert connection.execute("select count(*) from engine_meta").fetchone() == (2,)
    assert catalogs(empty_database) == catalogs(fresh_database)


@pytest.fixture
def refused() -> Callable[[str], str]:
    """
    What a node that cannot migrate this database says.
    """

    def say(conninfo: str) -> str:
        with pytest.raises(StartupError) as raised:
            migrate(conninfo)
        return str(raised.value)

    return say


@pytest.mark.parametrize(
    "change, says",
    [
        ({"host": "127.0.0.1", "port": "1"}, "at 127.0.0.1:1 cannot be reached"),
        ({"dbname": "nowhere"}, "nowhere"),
        ({"user": "nobody_here"}, "nobody_here"),
    ],
)
def test_an_unreachable_database_is_one_clear_error(empty_database, refused, change, says):
    """
    One line for the person who has to act on it, without the password.
    """
    message = refused(make_conninfo(empty_database, password="s3cret", **change))
    assert says in message
    assert "\n" not in message
    assert "s3cret" not in message


def test_a_connection_string_that_cannot_be_read_is_one_clear_error_without_the_password(refused):
    """
    The piece that libpq stumbles over may be the password, and is not repeated.
    """
    message = refused("postgresql://greenroom:s3cr%zz@127.0.0.1/greenroom")
    assert "should look like postgresql://" in message
    assert "s3cr" not in message


def test_a_role_that_may_not_create_tables_is_one_clear_error(empty_database, refused):
    """
    It is the operator's to grant, and nothing is left half done.
    """
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("create role weak")
        try:
            message = refused(make_conninfo(empty_database, options="-c role=weak"))
        finally:
            connection.execute("drop role weak")
    assert "could not be migrated: permission denied" in message
    assert "\n" not in message
    assert migrate(empty_database)
