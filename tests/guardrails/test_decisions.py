"""A decision counts alike whichever way it comes: command line, console form, JSON API.

Each case lists what people do, in order, and whether it counted; the last column is how the approval then stands.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.console.server import Console
from engine.edge import approvals
from engine.edge.console_store import PostgresStore
from tests.guardrails.world import MINUTE_MS, World

# (verb, name, hash) -> whether it counted
Decide = Callable[[str, str, str], Awaitable[bool]]
WAYS = ("command line", "console form", "JSON API")
ANOTHER = "0" * 64


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """The console on loopback HTTP, over the world's database."""
    store = PostgresStore(world.database, world.clock.now_ms)
    app = web.Application()

    async def no_alerts() -> list[object]:
        return []

    app.add_routes(Console(store, no_alerts, world.clock.now_ms).routes())  # type: ignore[arg-type]  # no alerts of any type
    async with TestClient(TestServer(app)) as made:
        yield made


@pytest.fixture(params=WAYS)
def decide(request: pytest.FixtureRequest, world: World, client: TestClient[web.Request, web.Application]) -> Decide:
    """One of the ways by which a person decides."""

    async def on_the_command_line(command: str, verb: str, by: str, sha256: str) -> bool:
        ran = await world.cli(verb, command, "--by", by, "--sha256", sha256)
        return bool(ran.code == 0)

    async def by_a_form(command: str, verb: str, by: str, sha256: str) -> bool:
        async with client.get("/") as page:
            found = re.search(r'name="csrf" value="(\w+)"', await page.text())
        assert found is not None
        form = {"csrf": found[1], "by": by, "decision": verb, "body_sha256": sha256, "incident": "1"}
        async with client.post(f"/approvals/{command}", data=form, allow_redirects=False) as answer:
            return answer.status == 303

    async def as_json(command: str, verb: str, by: str, sha256: str) -> bool:
        body = {"approve": verb == "approve", "by": by, "body_sha256": sha256}
        async with client.post(f"/api/approvals/{command}", json=body) as answer:
            return answer.status == 200

    way = dict(zip(WAYS, (on_the_command_line, by_a_form, as_json), strict=True))[request.param]

    async def decide(verb: str, by: str, sha256: str = "") -> bool:
        asked = await asked_for(world)
        return await way(asked.command, verb, by, sha256 or asked.body_sha256)

    return decide  # type: ignore[return-value]  # the hash has a default


async def asked_for(world: World) -> approvals.Approval:
    """What was asked."""
    async with world.database.connection() as conn:
        found = await approvals.find(conn, await conn.fetchval("select command from approvals"))
    assert found is not None
    return found


ONE = [
    ("a yes is enough", [("approve", "ada", True)], "approved"),
    ("a no is enough", [("deny", "ada", True)], "denied"),
    ("the same again, an answer was lost", [("approve", "ada", True), ("approve", "ada", True)], "approved"),
    ("another yes", [("approve", "ada", True), ("approve", "bob", False)], "approved"),
    ("a no after the yes", [("approve", "ada", True), ("deny", "bob", False)], "approved"),
    ("a yes after the no", [("deny", "ada", True), ("approve", "ada", False)], "denied"),
    ("nobody", [("approve", " ", False)], "waiting"),
]
TWO = [
    ("one is not enough", [("approve", "ada", True)], "waiting"),
    ("two are", [("approve", "ada", True), ("approve", "bob", True)], "approved"),
    ("the same person twice", [("approve", "ada", True), ("approve", "ada", False)], "waiting"),
    ("the same person in capitals", [("approve", "ada l", True), ("approve", "Ada  L", False)], "waiting"),
    ("a no is enough", [("approve", "ada", True), ("deny", "bob", True)], "denied"),
    ("their own no", [("approve", "ada", True), ("deny", "ada", True)], "denied"),
    ("a third", [("approve", "ada", True), ("approve", "bob", True), ("approve", "eve", False)], "approved"),
    (
        "the first again, an answer was lost",
        [("approve", "ada", True), ("approve", "bob", True), ("approve", "ada", True)],
        "approved",
    ),
]
CASES = [
    pytest.param(people, *case, id=f"{len(people) + 1} {name}")
    for people, cases in (([], ONE), (["P0"], TWO))
    for name, *case in cases
]


@pytest.mark.parametrize(("four_eyes", "said", "state"), CASES)
async def test_a_decision_counts_alike_whichever_way_it_comes(
    four_eyes: list[str], said: list[tuple[str, str, bool]], state: str, world: World, decide: Decide
) -> None:
    world.configure(four_eyes=four_eyes)
    await world.fire(alertname="Tampered")
    for verb, by, counts in said:
        assert await decide(verb, by) == counts, (verb, by)
    assert (await asked_for(world)).state == state
    await world.tick()
    await world.deliver()
    assert world.services.total == (state == "approved")


async def test_a_decision_about_another_text_counts_for_nothing(world: World, decide: Decide) -> None:
    await world.fire(alertname="Tampered")
    assert not await decide("approve", "ada", ANOTHER)
    assert (await asked_for(world)).state == "waiting"


async def test_a_command_altered_after_it_was_shown_cannot_be_approved(world: World, decide: Decide) -> None:
    await world.fire(alertname="Tampered")
    async with world.database.connection() as conn:
        await conn.execute("update approvals set body = replace(body, 'openclaw', 'bridge')")
    assert not await decide("approve", "ada")
    assert await world.has("approval.refused", "changed_command") == 1


async def test_a_yes_after_the_time_counts_for_nothing(world: World, decide: Decide) -> None:
    await world.fire(alertname="Tampered")
    await world.later(15 * MINUTE_MS)
    assert not await decide("approve", "ada")
    assert await world.has("approval.refused", "expired") == 1


async def test_the_second_yes_after_the_time_counts_for_nothing(world: World, decide: Decide) -> None:
    world.configure(four_eyes=["P0"])
    await world.fire(alertname="Tampered")
    assert await decide("approve", "ada")
    await world.later(15 * MINUTE_MS)
    assert not await decide("approve", "bob")
    await world.tick()
    await world.deliver()
    assert (world.services.total, await world.has("approval.refused", "expired")) == (0, 1)


async def test_who_asked_and_who_agreed_stands_in_the_audit(world: World, decide: Decide) -> None:
    world.configure(four_eyes=["P0"])
    await world.fire(alertname="Tampered")
    await decide("approve", "ada")
    await decide("approve", "bob")
    rows = [(row.actor, row.kind) for row in await world.audit() if row.kind.startswith("approval.")]
    assert rows == [
        ("responder", "approval.requested"),
        ("ada", "approval.first_of_two"),
        ("bob", "approval.approved"),
    ]
    await world.tick()
    async with world.database.connection() as conn:
        text = await conn.fetchval("select data->>'text' from audit where kind = 'command.approved'")
    assert text.endswith("approved by ada and bob")


async def test_after_the_first_yes_people_see_one_of_two(
    world: World, client: TestClient[web.Request, web.Application]
) -> None:
    world.configure(four_eyes=["P0"])
    await world.fire(alertname="Tampered")
    ran = await world.decide("approve", "ada")
    assert "1 of 2 have agreed (ada): nothing is done before another person agrees" in ran.out
    assert "four eyes: 1 of 2 have agreed (ada)" in (await world.cli("approvals")).out
    async with client.get("/incidents/1") as page:
        assert "1 of 2 have agreed (ada)" in await page.text()
    async with client.get("/api/approvals") as answer:
        [shown] = await answer.json()
    assert (shown["people"], shown["yes_by"], shown["state"]) == (2, ["ada"], "waiting")
