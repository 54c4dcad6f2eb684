"""Every service on loopback for each test, and a responder and a notifier beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from engine.edge.database import Database, url_of
from tests.notifiers.site import Services, Site
from tests.notifiers.stubs import AlertmanagerStub, PagerDutyStub, SlackStub, mail_server, running
from tests.notifiers.tls import Tls, make_tls


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """One authority for the run."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest_asyncio.fixture
async def services(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    """The stubs; what a test did to them has to be within the documented schemas unless it took the problems away."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with mail_server() as mailbox:
        async with (
            running(PagerDutyStub(), tls) as pagerduty,
            running(SlackStub(), tls) as slack,
            running(AlertmanagerStub(), tls) as alertmanager,
        ):
            made = Services(tls, pagerduty, slack, alertmanager, mailbox)
            yield made
            assert made.problems() == []


@pytest_asyncio.fixture
async def site(database: Database, services: Services) -> AsyncIterator[Site]:
    """PagerDuty is on-call, Slack is ops, a mail goes to lead."""
    made = Site(database, services, services.settings())
    yield made
    await made.notifying.close()


@pytest_asyncio.fixture
async def bare_url(postgres_url: str) -> AsyncIterator[str]:
    """An empty database."""
    server = await asyncpg.connect(postgres_url)
    await server.execute("create database bare_notices")
    yield url_of(postgres_url, "bare_notices")
    await server.execute("drop database bare_notices with (force)")
    await server.close()
