"""An incident in Debian's Alertmanager: it shows while it is open, and goes when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.edge.clock import now_ms
from engine.edge.database import Database
from engine.edge.settings_notify import Receiver
from tests.notifiers.site import Services, Site
from tests.parts import running_alertmanager
from tests.waiting import until

pytestmark = pytest.mark.real


async def shown(url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient() as client:
        return list((await client.get(f"{url}/api/v2/alerts")).json())


async def test_an_incident_shows_in_an_alertmanager_until_it_ends(
    database: Database, services: Services, tmp_path: Path
) -> None:
    with running_alertmanager(tmp_path) as url:
        receiver = Receiver.model_validate({"alertmanager": {"url": url}, "follow": True})
        settings = services.settings("ops", "on-call", "lead")
        settings = settings.model_copy(update={"receivers": settings.receivers | {"alerts": receiver}})
        site = Site(database, services, settings, now_ms())
        await site.alert("firing")
        await site.deliver()
        await until(lambda: shown(url))
        [alert] = await shown(url)
        assert alert["labels"]["alertname"] == "SentinelIncident"
        assert (alert["labels"]["incident"], alert["annotations"]["description"]) == ("1", "needs a person")
        await site.say("close")
        await site.after(0)

        async def gone() -> bool:
            return await shown(url) == []

        await until(gone)
