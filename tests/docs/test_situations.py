"""The tables about guardrails are those that the tests and the program go by."""

from __future__ import annotations

from typing import get_args

from engine.response.guardrails import ModeReason
from tests.docs.pages import codes, table
from tests.guardrails.cluster_situations import ON_A_CLUSTER
from tests.guardrails.situations import SITUATIONS


def test_the_table_of_dangerous_situations_is_that_of_the_tests() -> None:
    shown = table("docs/safety.md", "Dangerous situations")
    assert shown == [[one.name, one.verdict, f"`{one.reason}`"] for one in [*SITUATIONS, *ON_A_CLUSTER]]


def test_the_table_of_mode_reasons_is_the_programs() -> None:
    shown = {codes(row[0])[0] for row in table("docs/runbooks.md", "Modes and approvals")}
    assert shown == set(get_args(ModeReason))
