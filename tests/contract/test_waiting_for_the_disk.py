"""Which commits wait for the disk: all that somebody is told of, and none that would only be made again."""

from engine.store.queries import queries

SHOW = "show synchronous_commit"


async def test_what_is_answered_waits_for_the_disk_and_what_is_made_again_does_not(store):
    """
    What was answered survives a crash of PostgreSQL; effects cost no wait, for a crash makes them again.
    """
    async with store.requests.connection() as connection:
        assert await (await connection.execute(SHOW)).fetchone() == ("on",)
    async with store.background.connection() as connection:
        assert await (await connection.execute(SHOW)).fetchone() == ("off",)


async def test_the_end_of_a_quarantine_waits_for_the_disk(store):
    """
    An operator was told that the plugin runs again; the statement that says so says it for good.
    """
    async with store.background.connection() as connection, connection.transaction():
        await connection.execute("insert into plugin_cursors (plugin, xid, seq) values ('p', '0', 0)")
        await connection.execute(queries("cursors")["resume"], {"plugin": "p"})
        assert await (await connection.execute(SHOW)).fetchone() == ("on",)
