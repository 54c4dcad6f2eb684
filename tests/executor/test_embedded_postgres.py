"""The embedded PostgreSQL starts anywhere, once, and nothing of it is left running, whatever ends us."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from engine.edge import embedded_postgres
from engine.edge.database import open_database, socket_url

FAST = {"fsync": "off"}


def servers(state: Path) -> list[psutil.Process]:
    """The server processes of a state folder; not what they forked a moment ago, which still has their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "ppid"]):
        command = process.info["cmdline"] or []
        if str(state / "postgres") in command and "postgres" in command[0]:
            found.append(process)
    own = {process.pid for process in found}
    return [process for process in found if process.info["ppid"] not in own]


async def gone(state: Path) -> None:
    await asyncio.to_thread(psutil.wait_procs, servers(state), timeout=20)
    assert not servers(state)


@pytest.mark.parametrize("name", ["plain", "with a space", "ünï'cödé $x", "long-" + "x" * 120])
async def test_it_runs_from_any_path_keeps_its_data_and_stops(tmp_path: Path, name: str) -> None:
    state = tmp_path / name
    for expected in (0, 1):
        async with embedded_postgres.running(state, FAST) as socket_dir:
            conn = await asyncpg.connect(socket_url(socket_dir, "postgres"))
            await conn.execute("create table if not exists kept (n int)")
            assert await conn.fetchval("select count(*) from kept") == expected
            await conn.execute("insert into kept values (1)")
            await conn.close()
            assert servers(state)
        assert not servers(state)
        assert not socket_dir.exists()


async def test_only_its_own_user_can_reach_it(tmp_path: Path) -> None:
    async with embedded_postgres.running(tmp_path, FAST) as socket_dir:
        assert socket_dir.stat().st_mode & 0o077 == 0
        assert (tmp_path / "postgres").stat().st_mode & 0o077 == 0
        conn = await asyncpg.connect(socket_url(socket_dir, "postgres"))
        assert await conn.fetchval("show listen_addresses") == ""
        await conn.close()


async def test_no_permission_outside_the_state_folder_is_changed(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    async with embedded_postgres.running(private / "state", FAST):
        assert private.stat().st_mode & 0o777 == 0o700
    assert private.stat().st_mode & 0o777 == 0o700


async def test_a_second_process_attaches_and_leaves_it_running(tmp_path: Path) -> None:
    async with embedded_postgres.running(tmp_path, FAST) as first:
        async with embedded_postgres.running(tmp_path, FAST) as second:
            assert second == first
            assert len(servers(tmp_path)) == 1
        assert servers(tmp_path)


CHILD = """
import asyncio, sys
from pathlib import Path
from engine.edge import embedded_postgres

async def main():
    async with embedded_postgres.running(Path(sys.argv[1]), {"fsync": "off"}):
        print("ready", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def start_child(state: Path) -> asyncio.subprocess.Process:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(state), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    return child


async def test_it_stops_when_we_are_killed(tmp_path: Path) -> None:
    child = await start_child(tmp_path)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    await gone(tmp_path)


async def test_a_server_that_outlived_everything_is_replaced_and_its_data_kept(tmp_path: Path) -> None:
    child = await start_child(tmp_path)
    [server] = servers(tmp_path)
    guard = psutil.Process(server.ppid())
    # By their parent's id, not `guard.children()`: that compares start times, which move with the system's clock.
    beside = [one for one in psutil.process_iter(["ppid"]) if one.info["ppid"] == guard.pid and one.pid != server.pid]
    assert beside, "what waits for our end of the pipe to close"
    for process in [guard, *beside]:
        process.kill()
    child.kill()
    await child.wait()
    assert servers(tmp_path), "an orphan"
    async with embedded_postgres.running(tmp_path, FAST):
        [new] = servers(tmp_path)
        assert new.pid != server.pid


@pytest.mark.parametrize("pid", ["gone", "reused"])
async def test_a_stale_pid_file_does_not_hinder(tmp_path: Path, pid: str) -> None:
    async with embedded_postgres.running(tmp_path, FAST):
        stale = (tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()
    stale[0] = str(os.getpid() if pid == "reused" else 2**22 - 1)
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    async with embedded_postgres.running(tmp_path, FAST):
        assert len(servers(tmp_path)) == 1


async def test_a_half_made_data_folder_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with embedded_postgres.running(tmp_path, FAST):
        assert servers(tmp_path)


async def test_data_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(embedded_postgres.EmbeddedPostgresError, match="made by PostgreSQL 14"):
        async with embedded_postgres.running(tmp_path):
            pass


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(embedded_postgres.EmbeddedPostgresError, match="no_such_setting"):
        async with embedded_postgres.running(tmp_path, {"no_such_setting": "1"}):
            pass
    assert not servers(tmp_path)


async def test_the_default_database_is_opened_migrated_and_can_make_others(tmp_path: Path) -> None:
    async with open_database(None, tmp_path) as db:
        url = await db.create_database("aureus_os")
        assert url == await db.create_database("aureus_os")
        async with db.connection() as conn:
            assert await conn.fetchval("select count(*) from schema_migrations") >= 1
        other = await asyncpg.connect(url)
        assert await other.fetchval("select current_database()") == "aureus_os"
        await other.close()
        with pytest.raises(ValueError, match="not a database name"):
            await db.create_database('x"; drop table y')
    assert not servers(tmp_path)
