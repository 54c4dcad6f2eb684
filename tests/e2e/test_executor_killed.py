"""An executor that is killed in the middle of a command: nothing is done twice, and nobody is left in the dark.

```
executor 1   claim ── POST ──x (SIGKILL while the shop has not answered)
executor 2                     start ── lease over ── look, do not touch ── inconclusive
incident     command.sent ───────────────────────────────────────────────── command.outcome ── verify ...
```
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from engine.edge.database import Database
from engine.edge.node import running
from engine.edge.settings import Settings
from engine.flow import ROLES
from tests.e2e import shop
from tests.waiting import until


@pytest.mark.timeout(180)
async def test_a_command_whose_executor_was_killed_is_inconclusive_and_never_run_again(
    database: Database, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(shop.Shop().serving())
        tree = shop.tree(tmp_path, database.url, service.url)
        settings = Settings.model_validate(tree)
        node = await stack.enter_async_context(running(settings, set(ROLES) - {"executor"}, shop.load_rules(settings)))
        client = shop.Client(await stack.enter_async_context(aiohttp.ClientSession()), node.http_url)
        await shop.ready(node)

        tree["kafka"]["url"] = f"kafka://{node.bootstrap}"
        first = shop.start_roles("executor", tree, tmp_path)
        stack.callback(first.kill)
        service.hangs = True
        await client.push("card", lines=3)
        await until(lambda: service.restarts == ["card"], 40, "the first executor's call")
        first.kill()
        service.hangs = False
        second = shop.start_roles("executor", tree, tmp_path)
        stack.callback(second.kill)

        kinds = await client.reaches("card", "command.outcome", 90)
        assert kinds.index("command.sent") < kinds.index("command.outcome")
        [command] = (await client.incident("card"))["commands"]
        assert (command["status"], command["reason"]) == ("inconclusive", "executor_lost")
        kinds = await client.reaches("card", "incident.resolved")
        assert kinds.index("command.outcome") < kinds.index("verify.succeeded")
        assert service.restarts == ["card"]
        assert second.stop() == 0
