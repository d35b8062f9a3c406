"""Backup of a running node, restore elsewhere: everything is there, and clients are told."""

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import trio

from engine.store.embedded import running_conninfo
from tests.acceptance.outside import Listener, Program

Run = Callable[..., subprocess.CompletedProcess[str]]


async def test_a_restored_node_has_everything_and_begins_a_new_epoch(
    serve: Callable[..., Awaitable[Program]],
    listen: Callable[..., Awaitable[Listener]],
    greenroom: Run,
    tmp_path: Path,
) -> None:
    """
    New events come after the old ones for clients and plugins, though the server's transactions are younger.
    """
    program = await serve()
    kept = [await program.create(f"Episode {number}") for number in range(3)]
    await program.wait_recorded()
    # As on a server that has done much: its transaction ids are far ahead of a new one's.
    with psycopg.connect(running_conninfo(program.data_dir) or "", autocommit=True) as connection:
        for _ in range(3000):
            connection.execute("select pg_current_xact_id()")
    late = await program.create("Late")
    await program.wait_recorded()
    before = (await program.ask("GET", f"/api/v1/episodes/{late['id']}/events")).json["position"]

    async def run(*words: object) -> subprocess.CompletedProcess[str]:
        return await trio.to_thread.run_sync(lambda: greenroom(*words))

    file = tmp_path / "backup.dump"
    made = await run("backup", file, "--data-dir", program.data_dir)
    assert (made.returncode, made.stderr) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    again = await run("backup", file, "--data-dir", program.data_dir)
    assert (again.returncode, "--force" in again.stderr) == (1, True)
    busy = await run("restore", file, "--data-dir", program.data_dir)
    assert (busy.returncode, "another node uses it" in busy.stderr) == (2, True)
    await program.stop()

    full = await run("restore", file, "--data-dir", program.data_dir)
    assert (full.returncode, "--replace" in full.stderr) == (2, True)
    broken = tmp_path / "broken.dump"
    broken.write_bytes(file.read_bytes()[:5000])
    assert (await run("restore", broken, "--data-dir", program.data_dir, "--replace")).returncode == 2

    elsewhere = tmp_path / "elsewhere"
    restored = await run("restore", file, "--data-dir", elsewhere)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert "4 episodes" in restored.stdout

    second = await serve(data_dir=elsewhere)
    everything = await second.everything("/activity")
    assert {record["resourceId"] for record in everything} == {one["id"] for one in (*kept, late)}
    listener = await listen(second)
    await listener.answer("back", type="subscribe", topic=f"episode:{late['id']}", since=before)
    [subscribed] = [one for one in listener.of_type("subscribed") if one["topic"] != "catalog"]
    assert (subscribed["recovered"], subscribed["snapshot"]["episode"]["id"]) == (False, late["id"])
    assert subscribed["position"]["epoch"] != before["epoch"]
    new = await second.create("New")
    await listener.wait(lambda: listener.created() == [new["id"]] or len(listener.messages) > 3)
    await second.wait_recorded()
    assert len(await second.everything("/activity")) == 5
    assert len(await second.everything("/audit")) == 5


async def test_the_doctor_finds_what_is_wrong(
    serve: Callable[..., Awaitable[Program]], greenroom: Run, tmp_path: Path
) -> None:
    """
    Nothing on a good node; a readable secret, too few descriptors, a plugin in quarantine are named.
    """
    program = await serve()
    await program.create()
    await program.wait_recorded()

    async def doctor(**more: str) -> subprocess.CompletedProcess[str]:
        return await trio.to_thread.run_sync(
            lambda: greenroom("doctor", "--data-dir", program.data_dir, **more)
        )

    fine = await doctor(GREENROOM_LIMITS_SESSIONS="10")
    assert (fine.returncode, fine.stderr) == (0, ""), fine.stdout
    assert "wrong" not in fine.stdout
    for what in ("database", "migrations", "clock", "plugin audit", "file descriptors", "disk"):
        assert f"ok    {what}: " in fine.stdout

    (program.data_dir / "secret").chmod(0o644)
    with psycopg.connect(running_conninfo(program.data_dir) or "") as connection:
        connection.execute("update plugin_cursors set quarantined_at = now(), reason = 'it is tired'")
    ill = await doctor(GREENROOM_LIMITS_SESSIONS="100000000")
    assert ill.returncode == 1
    wrong = [line for line in ill.stdout.splitlines() if line.startswith("wrong")]
    assert any("chmod 600" in line for line in wrong)
    assert any("LimitNOFILE=" in line for line in wrong)
    assert sum("it is tired" in line for line in wrong) == 3
    away = await doctor(DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x")
    assert (away.returncode, "cannot be reached" in away.stdout) == (1, True)
    assert "hunter2" not in away.stdout
    gone = await doctor(GREENROOM_PLUGINS_ENABLED="nosuch")
    assert (gone.returncode, "nosuch" in gone.stdout) == (1, True)
    assert (await doctor(GREENROOM_SERVER_PORT="x")).returncode == 2
