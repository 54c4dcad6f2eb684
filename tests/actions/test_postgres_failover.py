"""A real standby that is promoted between plan and run: another timeline, so not the server of the plan."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from engine.actions import Environment, RefusedError, load_actions
from engine.core.messages import Target
from engine.edge import embedded_postgres
from engine.edge.database import socket_url

ACTIONS = load_actions()
TARGET = Target("postgres", "main")
_FAST = {"fsync": "off", "max_connections": "20"}
LONG = {"older_than_s": 1e-6, "roles": ["app"]}


async def refused(name: str, env: Environment, params: dict[str, Any]) -> str:
    with pytest.raises(RefusedError) as caught:
        await ACTIONS[name].plan(env, TARGET, ACTIONS[name].decode_params(params))
    return caught.value.reason


async def test_a_standby_is_not_changed_and_a_promoted_one_is_another_server(tmp_path: Path) -> None:
    async with embedded_postgres.running(tmp_path, _FAST) as sockets:
        admin = await asyncpg.connect(socket_url(sockets, "postgres"))
        await admin.execute("create role app login; create table goods (id int)")
        await admin.close()
    (tmp_path / "postgres" / "standby.signal").touch()
    async with embedded_postgres.running(tmp_path, _FAST) as sockets, httpx.AsyncClient() as client:
        url = socket_url(sockets, "postgres")
        env = Environment({}, {"main": url}, client, asyncpg.connect, asyncio.sleep)
        assert await refused("postgres.analyze", env, {"tables": ["public.goods"]}) == "server_is_standby"
        assert await refused("postgres.vacuum", env, {"tables": ["public.goods"]}) == "server_is_standby"
        index = {"table": "public.goods", "columns": ["id"]}
        assert await refused("postgres.create_index_concurrently", env, index) == "server_is_standby"

        cancel = ACTIONS["postgres.cancel_long_queries"]
        params = cancel.decode_params(LONG)
        app, admin = await asyncpg.connect(url.replace("postgres@", "app@")), await asyncpg.connect(url)
        reading = asyncio.ensure_future(app.execute("select pg_sleep(60)"))
        while not (plan := await cancel.plan(env, TARGET, params)).changes:
            pass
        assert plan.changes[0]["server"]["timeline"] == 1
        assert await admin.fetchval("select pg_promote()")
        with pytest.raises(RefusedError, match=r"'timeline': 1.*'timeline': 2") as caught:
            await cancel.run(env, TARGET, params, plan)
        assert caught.value.reason == "server_changed"
        assert not reading.done()
        assert (await cancel.verify(env, TARGET, params, plan)).state == "unknown"

        anew = await cancel.plan(env, TARGET, params)
        assert (await cancel.run(env, TARGET, params, anew)).status == "done"
        with pytest.raises(asyncpg.QueryCanceledError):
            await reading
        await app.close()
        await admin.close()
