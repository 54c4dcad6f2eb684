"""A wrong URL is an error that names the setting; an outage later is a state that passes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import structlog

from engine.edge import embedded_postgres
from engine.edge.database import Database, DatabaseError, connect_pool, open_database, socket_url, url_of
from engine.edge.migrate import MigrationError, migrate


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://u:pa55@127.0.0.1:9/x", "no server answers there"),
        ("postgresql://u:pa55@no-such-host.invalid/x", "host name 'no-such-host.invalid' is not known"),
        ("postgresql://u:pa55@127.0.0.1:port/x", "not a PostgreSQL URL"),
        ("mysql://u:pa55@127.0.0.1/x", "not a PostgreSQL URL"),
    ],
)
async def test_a_wrong_url_is_a_clear_error_without_the_password(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(DatabaseError) as raised:
        async with open_database(url, tmp_path):
            pass
    said = str(raised.value)
    assert said.startswith("database.url ")
    assert why in said
    assert "pa55" not in said


async def test_an_unknown_database_and_a_refused_user_are_named(postgres_url: str) -> None:
    with pytest.raises(DatabaseError, match='"nope" does not exist'):
        await connect_pool(url_of(postgres_url, "nope"))
    server = await asyncpg.connect(postgres_url)
    await server.execute("create role locked nologin")
    await server.close()
    with pytest.raises(DatabaseError, match="refused the user or password"):
        await connect_pool(postgres_url.replace("postgres@", "locked:pa55@"))


async def test_no_piece_of_a_password_that_is_not_encoded_is_shown() -> None:
    for url in ("postgresql://u:12x/ss#wd@h/d", "postgresql://u:pa?ss@h/d"):
        with pytest.raises(DatabaseError) as raised:
            await connect_pool(url)
        assert "percent-encode the password" in str(raised.value)
        assert not re.search("12x|pa[?]|ss[#@]|wd@", str(raised.value))


async def test_json_columns_carry_plain_data(database: Database) -> None:
    data = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    async with database.connection() as conn:
        for kind in ("json", "jsonb"):
            assert await conn.fetchval(f"select $1::{kind}", data) == data


@contextmanager
def same_place(old: Path, new: Path) -> Iterator[None]:
    """A restarted embedded server has a new socket folder; a real one comes back where it was."""
    old.symlink_to(new)
    yield
    old.unlink()


async def test_work_waits_while_the_database_is_away_with_one_line_for_each_change(tmp_path: Path) -> None:
    pauses: list[float] = []
    restarted = asyncio.Event()

    async def pause(duration_s: float) -> None:
        pauses.append(duration_s)
        if len(pauses) == 6:
            restarted.set()
        await asyncio.sleep(0.01)

    first = embedded_postgres.running(tmp_path, {"fsync": "off"})
    url = socket_url(await first.__aenter__(), "postgres")
    db = Database(url, await connect_pool(url), pause)
    await db.run(lambda conn: conn.execute("create table t (n int)"))
    with structlog.testing.capture_logs() as logs:
        await first.__aexit__(None, None, None)
        work = asyncio.create_task(db.run(lambda conn: conn.execute("insert into t values (1)")))
        await restarted.wait()
        away = db.is_away
        async with embedded_postgres.running(tmp_path, {"fsync": "off"}) as socket_dir:
            with same_place(Path(url.partition("host=")[2]), socket_dir):
                await work
                assert await db.run(lambda conn: conn.fetchval("select count(*) from t")) == 1
                db.pool.terminate()
    assert [line["event"] for line in logs] == ["database.away", "database.back"]
    assert (away, db.is_away) == (True, False)
    assert max(pauses) > min(pauses)


async def test_the_loser_of_a_deadlock_is_done_again(database: Database) -> None:
    await database.run(lambda conn: conn.execute("create table t (id int primary key, n int)"))
    await database.run(lambda conn: conn.execute("insert into t values (1, 0), (2, 0)"))
    both = asyncio.Barrier(2)
    tries = 0

    async def add(conn: asyncpg.Connection, first: int, second: int) -> None:
        nonlocal tries
        tries += 1
        await conn.execute("update t set n = n + 1 where id = $1", first)
        if tries <= 2:
            await both.wait()
        await conn.execute("update t set n = n + 1 where id = $1", second)

    await asyncio.gather(database.run(lambda conn: add(conn, 1, 2)), database.run(lambda conn: add(conn, 2, 1)))
    assert tries == 3
    assert await database.run(lambda conn: conn.fetchval("select sum(n) from t")) == 4


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "0001_a.sql").write_text("create table a (n int);")
    (tmp_path / "0002_b.sql").write_text("create table b (n int); insert into b values (1);")
    return tmp_path


async def test_migrations_run_once_in_name_order(bare: asyncpg.Connection, migrations: Path) -> None:
    assert await migrate(bare, migrations) == ["0001_a.sql", "0002_b.sql"]
    assert await migrate(bare, migrations) == []
    (migrations / "0003_c.sql").write_text("create table c (n int)")
    assert await migrate(bare, migrations) == ["0003_c.sql"]


async def test_a_changed_migration_is_an_error(bare: asyncpg.Connection, migrations: Path) -> None:
    await migrate(bare, migrations)
    (migrations / "0001_a.sql").write_text("create table a (n bigint);")
    with pytest.raises(MigrationError, match=r"0001_a\.sql was changed"):
        await migrate(bare, migrations)


async def test_a_database_of_a_newer_program_is_an_error(bare: asyncpg.Connection, migrations: Path) -> None:
    await migrate(bare, migrations)
    (migrations / "0002_b.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_b\.sql, which this program does not know"):
        await migrate(bare, migrations)


async def test_a_failed_migration_is_rolled_back_whole(bare: asyncpg.Connection, migrations: Path) -> None:
    (migrations / "0003_c.sql").write_text("create table c (n int); create table c (n int);")
    with pytest.raises(MigrationError, match=r"0003_c\.sql failed and was rolled back"):
        await migrate(bare, migrations)
    assert await bare.fetchval("select to_regclass('c') is null")
    assert await bare.fetchval("select count(*) from schema_migrations") == 2


async def test_processes_that_migrate_at_once_do_it_once(
    bare: asyncpg.Connection, bare_url: str, migrations: Path
) -> None:
    others = [await asyncpg.connect(bare_url) for _ in range(4)]
    done = await asyncio.gather(*(migrate(conn, migrations) for conn in others))
    assert sorted(map(len, done)) == [0, 0, 0, 2]
    for conn in others:
        await conn.close()


async def test_a_mistake_of_ours_is_raised_and_not_tried_again(database: Database) -> None:
    tries = 0

    async def wrong(conn: asyncpg.Connection) -> None:
        nonlocal tries
        tries += 1
        await conn.execute("select nonsense")

    with pytest.raises(asyncpg.UndefinedColumnError):
        await database.run(wrong)
    assert tries == 1


async def test_connections_that_died_in_the_pool_are_not_lost_from_it(postgres_url: str, database: Database) -> None:
    pool = await connect_pool(database.url, 2)
    db = Database(database.url, pool)
    server = await asyncpg.connect(postgres_url)
    for _ in range(5):
        await server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname like 'test_%'")
        assert await db.run(lambda conn: conn.fetchval("select 1")) == 1
    await server.close()
    await pool.close()
