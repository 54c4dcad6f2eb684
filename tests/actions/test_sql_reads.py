"""What a query reads: tables are found by parsing, and each asks for the least that lets the query be answered."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions import SqlGrant, SqlNote, SqlPrivilege
from engine.actions._reads import reads_of
from engine.actions._sql import quoted, sql_grants
from engine.actions._sql_reads import query_needs
from engine.edge.database import url_of
from engine.edge.lacking import lacking_in_database
from engine.loading import load

ROOT = Path(__file__).parents[2]
STATS = "member of pg_read_all_stats"


def select(*paths: str) -> list[str]:
    return [f"SELECT on table {path}" for path in paths]


@pytest.mark.parametrize(
    ("query", "needs"),
    [
        ("select 1", []),
        ("select * from orders", select("public.orders")),
        ("select * from Orders", select("public.orders")),
        ('select * from shop."Order Items" where id = $1', select("shop.Order Items")),
        ("select * from a join b using (id) where exists (select from c)", select("public.a", "public.b", "public.c")),
        ("select (select max(id) from a), b.* from b limit 1", select("public.a", "public.b")),
        ("select id from a union all select id from b", select("public.a", "public.b")),
        ("with o as (select * from orders) select * from o", select("public.orders")),
        ("with o as (select * from orders) select * from o join s.o x on true", select("public.orders", "s.o")),
        ("with recursive r as (select 1 from a union select 1 from r) select * from r", select("public.a")),
        ("select * from generate_series(1, 9) n, (values (1)) as t (x)", []),
        ("select datname, pg_database_size(oid) from pg_database", []),
        ("select * from pg_catalog.pg_class, information_schema.tables", []),
        ("select relname from pg_stat_user_tables", []),
        ("select pid from pg_stat_activity", [STATS]),
        ("select query from pg_stat_statements s join pg_database d on d.oid = s.dbid", [STATS]),
        ("select * from pg_stat_progress_vacuum", [STATS]),
        ("select * from shop.pg_things", select("shop.pg_things")),
        ("select 'from secrets' as text -- from comments", []),
        ("select from where", ["SELECT on what the query reads: Sentinel could not parse it"]),
    ],
)
def test_a_query_needs_what_it_reads(query: str, needs: list[str]) -> None:
    found = query_needs(query)
    usage = {str(one) for one in found if isinstance(one, SqlPrivilege) and one.privilege == "USAGE"}
    assert [str(one) for one in found if str(one) not in usage] == needs
    schemas = {one.path[0] for one in found if isinstance(one, SqlPrivilege)}
    assert usage == {f"USAGE on schema {schema}" for schema in schemas}


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
)
def test_any_quoted_name_is_found(schema: str, table: str) -> None:
    needs = query_needs(f"table {quoted('x' + schema)}.{quoted(table)}")
    assert SqlPrivilege("SELECT", "TABLE", ("x" + schema, table)) in needs


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    assert all(isinstance(one, SqlGrant | SqlPrivilege | SqlNote) for one in query_needs(text))


def test_every_query_of_the_shipped_runbooks_is_understood() -> None:
    loaded = load([ROOT / "rules", ROOT / "examples/aureus/rules"])
    queries = [need for need in reads_of(loaded.runbooks) if need.action == "query"]
    assert len(queries) > 10
    assert [need for need in queries if any(isinstance(one, SqlNote) for one in need.permissions)] == []


async def test_with_what_is_granted_the_query_is_answered_and_with_any_one_less_it_is_named(postgres_url: str) -> None:
    query = 'select count(*) from shop."Order Items" i join public.orders o on o.id = i.id'
    server = await asyncpg.connect(postgres_url)
    await server.execute("create role eyes login")
    await server.execute("create database reads")
    admin = await asyncpg.connect(url_of(postgres_url, "reads"))
    await admin.execute(
        'create schema shop; create table shop."Order Items" (id int); create table orders (id int); '
        "revoke usage on schema public from public"
    )
    eyes = await asyncpg.connect(url_of(postgres_url, "reads").replace("postgres@", "eyes@"))
    try:
        needs = query_needs(query)
        assert len(needs) == 4
        for one in needs:
            await admin.execute("\n".join(sql_grants([other for other in needs if other != one], "eyes")))
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await eyes.fetch(query)
            assert await lacking_in_database(eyes, needs) == [one.statement("eyes")]  # type: ignore[arg-type]  # no notes
            await admin.execute("drop owned by eyes")
        await admin.execute("\n".join(sql_grants(needs, "eyes")))
        assert await lacking_in_database(eyes, needs) == []  # type: ignore[arg-type]  # no notes
        assert len(await eyes.fetch(query)) == 1
    finally:
        await eyes.close()
        await admin.close()
        await server.execute("drop database reads")
        await server.execute("drop role eyes")
        await server.close()
