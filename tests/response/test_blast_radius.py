"""Blast radius: how much of a fleet may be acted on without a person, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.response.blast_radius import BlastRadius, Fleet


def fleet(size: int) -> Fleet:
    return Fleet("workloads of namespace aureus", size)


@pytest.mark.parametrize(
    ("share", "at_least", "size", "most"),
    [
        (0.3, 1, 0, 1),
        (0.3, 1, 3, 1),
        (0.3, 1, 6, 1),
        (0.3, 1, 7, 2),
        (0.3, 1, 10, 3),
        (0.29, 1, 100, 29),
        (0.0, 2, 100, 2),
        (1.0, 1, 100, 100),
    ],
)
def test_the_share_is_rounded_down_and_some_are_always_allowed(
    share: float, at_least: int, size: int, most: int
) -> None:
    assert BlastRadius(share, at_least).most(size) == most


@pytest.mark.parametrize(
    ("situation", "target", "acted_on", "forbidden"),
    [
        ("the first of ten", "a", [], False),
        ("the third of ten", "c", ["a", "b"], False),
        ("the fourth of ten", "d", ["a", "b", "c"], True),
        ("one of the three again", "b", ["a", "b", "c"], False),
        ("the same one three times is one", "d", ["a", "a", "a"], False),
    ],
)
def test_distinct_targets_count(situation: str, target: str, acted_on: list[str], forbidden: bool) -> None:
    why = BlastRadius(share=0.3).beyond(fleet(10), target, acted_on)
    assert (why is not None) == forbidden, situation
    if why:
        assert why == (
            "3 of 10 workloads of namespace aureus were acted on within 1h, and alone it may be 3: "
            "a person has to agree"
        )


@given(st.floats(0, 1), st.integers(1, 5), st.integers(0, 200), st.lists(st.integers(0, 250), max_size=300))
def test_no_order_of_targets_makes_it_more_than_may_be(
    share: float, at_least: int, size: int, targets: list[int]
) -> None:
    limit, acted_on = BlastRadius(share, at_least), set[str]()
    for target in map(str, targets):
        if limit.beyond(fleet(size), target, acted_on) is None:
            acted_on.add(target)
    assert len(acted_on) <= max(at_least, share * size + 1e-6)
