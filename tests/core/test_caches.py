"""The cache forgets only what was not used lately, and never grows over twice its limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.core.caches import RecentCache


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=200), st.integers(1, 6))
def test_a_cache_is_bounded_and_never_answers_wrongly(steps: list[tuple[bool, int]], limit: int) -> None:
    cache: RecentCache[int, int] = RecentCache(limit)
    for write, key in steps:
        if write:
            cache.put(key, key * 7)
        assert cache.get(key) in ((key * 7,) if write else (None, key * 7))
        assert len(cache) <= 2 * limit


def test_what_is_asked_for_again_and_again_stays() -> None:
    cache: RecentCache[str, int] = RecentCache(10)
    cache.put("wanted", 1)
    for number in range(1_000):
        cache.put(f"other {number}", number)
        assert cache.get("wanted") == 1


def test_what_nobody_asks_for_goes() -> None:
    cache: RecentCache[str, int] = RecentCache(10)
    cache.put("unwanted", 1)
    for number in range(21):
        cache.put(f"other {number}", number)
    assert cache.get("unwanted") is None
