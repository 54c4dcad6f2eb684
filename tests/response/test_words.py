"""Words for people, and text that can be stored."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.messages import Command, Target
from engine.response.commands import describe
from engine.response.conditions import template
from engine.response.model import Evidence
from engine.response.words import cleaned, count, span, to_be_told

COMMAND = Command("c", 1, "g/r", "book", "step", "http.request", Target("http", "openclaw"), {}, "warning", 0, 1)


@pytest.mark.parametrize(
    ("span_ms", "text"), [(-5, "0s"), (0, "0s"), (999, "999ms"), (1_999, "1s"), (300_000, "5m"), (90_500, "1m30s")]
)
def test_a_span_of_time(span_ms: int, text: str) -> None:
    assert span(span_ms) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_a_count(number: int, text: str) -> None:
    assert count(number, "row") == text


def test_whom_to_tell() -> None:
    assert to_be_told(["on-call", "lead"]) == "to be told: on-call, lead"
    assert to_be_told([]) == "the runbook names nobody to tell"


@pytest.mark.parametrize(
    ("action", "target", "params", "text"),
    [
        (
            "http.request",
            Target("http", "openclaw"),
            {"method": "POST", "path": "/api/admin/blocklist", "json": {"user_id": "mallory"}, "expect_status": [201]},
            'POST /api/admin/blocklist {"user_id":"mallory"} on openclaw (http.request)',
        ),
        (
            "http.request",
            Target("http", "bridge"),
            {"method": "POST", "path": "/api/admin/restart"},
            "POST /api/admin/restart on bridge (http.request)",
        ),
        (
            "postgres.terminate_idle",
            Target("postgres", "main"),
            {"idle_minutes": 5, "roles": ["app"]},
            'postgres.terminate_idle on main {"idle_minutes":5,"roles":["app"]}',
        ),
        ("some.action", Target("x", "y"), {}, "some.action on y"),
    ],
)
def test_a_command_is_described_with_all_that_it_would_do(
    action: str, target: Target, params: dict[str, object], text: str
) -> None:
    assert describe(msgspec.structs.replace(COMMAND, action=action, target=target, params=params)) == text


def test_a_rendered_text_has_no_nul() -> None:
    assert template("{{ labels.pod }} fails").render({"labels": {"pod": "a\x00b"}}) == "a\ufffdb fails"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("a\\u0\x00", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\x00", max_size=3), inner, max_size=3),
)


@given(json_values)
def test_whatever_is_cleaned_has_no_nul_and_is_otherwise_the_same(body: object) -> None:
    found = cleaned(Evidence(True, 1, body=body))
    assert "\\x00" not in repr(found)
    assert "\\x00" in repr(body) or found.body == body
