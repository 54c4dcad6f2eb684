"""Every dangerous situation ends as the table says, with its reason in the audit and nothing else touched."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.guardrails.cluster_situations import ON_A_CLUSTER
from tests.guardrails.situations import SITUATIONS, Situation
from tests.guardrails.world import World

TABLE = [
    *(pytest.param(one, id=one.name) for one in SITUATIONS),
    *(pytest.param(one, id=one.name, marks=pytest.mark.real) for one in ON_A_CLUSTER),
]


@pytest.mark.parametrize("situation", TABLE)
async def test_a_dangerous_situation_ends_as_the_table_says(
    situation: Situation, world: World, tell: Callable[..., None]
) -> None:
    await situation.bring_about(world)
    rows = [row for row in await world.audit() if (row.kind, row.reason) == (situation.kind, situation.reason)]
    assert len(rows) == situation.times, await world.audit()
    assert world.services.total == situation.calls
    verified = await world.cli("audit", "verify")
    assert (verified.code, "the audit chain holds" in verified.out) == (0, True), verified
    by = rows[0].actor.partition("-")[0]
    tell(situation.name, situation.verdict, situation.reason, by, str(situation.calls))
