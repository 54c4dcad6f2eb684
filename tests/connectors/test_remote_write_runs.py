"""Remote write, request after request: runs that are recognised whole give what the full parser gives."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import DecodeError, remote_write
from connectors._remote_write_runs import Patterns, varint_times
from engine.core.batching import Samples
from engine.core.blocks import is_block
from tests.connectors.test_remote_write import HEADERS, T_MS, Series, expected, rows, samples_of, write_request

MORE_SERIES_THAN_A_RUN_HAS = 150


@pytest.fixture(autouse=True)
def fresh() -> None:
    remote_write.forget()


def scrape(number: int, zeros: frozenset[int] = frozenset(), count: int = MORE_SERIES_THAN_A_RUN_HAS) -> list[Series]:
    """A target's series in one scrape; the value of those in `zeros` is 0, which is left out on the wire."""
    return [
        (
            {"__name__": f"m{i % 5}", "i": str(i), "job": "bridge"},
            [(0.0 if i in zeros else i + number / 7, T_MS + number * 15_000)],
        )
        for i in range(count)
    ]


def known_parts(body: bytes) -> int:
    """How many samples of a request are in runs recognised whole."""
    parts = remote_write._patterns.split(body)
    return sum(len(part) for part in parts if isinstance(part, Samples))


def test_from_the_third_scrape_on_a_request_is_recognised_whole() -> None:
    bodies = [write_request(*scrape(number)) for number in range(4)]
    for number, body in enumerate(bodies):
        assert known_parts(body) == (0 if number < 2 else MORE_SERIES_THAN_A_RUN_HAS)
        assert rows(body) == expected(*scrape(number))


@pytest.mark.parametrize("cut", [1, 7, 40, 77, 149])
def test_a_run_that_requests_cut_in_two_is_recognised_in_both(cut: int) -> None:
    for number in range(2):
        samples_of(write_request(*scrape(number)))
    series = scrape(3)
    for part in (series[:cut], series[cut:]):
        body = write_request(*part)
        assert known_parts(body) == len(part)
        assert rows(body) == expected(*part)


def test_the_rest_of_a_cut_run_is_compared_like_any_other() -> None:
    for number in range(2):
        samples_of(write_request(*scrape(number)))
    samples_of(write_request(*scrape(3)[:40]))
    other = [
        ({**names, "job": "cart"}, points) if i == 1 else (names, points)
        for i, (names, points) in enumerate(scrape(3)[40:])
    ]
    assert rows(write_request(*other)) == expected(*other)


def test_a_series_that_becomes_zero_is_taken_one_by_one_once_and_recognised_after_that() -> None:
    for number in range(2):
        samples_of(write_request(*scrape(number)))
    zeros = frozenset({70})
    body = write_request(*scrape(3, zeros))
    assert 0 < known_parts(body) < MORE_SERIES_THAN_A_RUN_HAS
    assert rows(body) == expected(*scrape(3, zeros))
    assert known_parts(write_request(*scrape(4, zeros))) == MORE_SERIES_THAN_A_RUN_HAS


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.frozensets(st.integers(0, 149), max_size=4),  # zeros
            st.lists(st.integers(0, 149), max_size=2),  # series left out
            st.lists(st.integers(1, 148), max_size=2),  # where requests are cut
            st.dictionaries(st.integers(0, 149), st.sampled_from([[], [(1.0, 5)], [(2.0, T_MS), (3.0, T_MS + 1)]])),
            st.lists(st.integers(0, 149), max_size=2),  # where the time changes
        ),
        min_size=3,
        max_size=5,
    )
)
def test_whatever_changes_from_scrape_to_scrape_every_sample_arrives_as_it_was_sent(scrapes: list[Any]) -> None:
    remote_write.forget()
    for number in range(2):
        samples_of(write_request(*scrape(number)))
    for number, (zeros, missing, cuts, odd, changes) in enumerate(scrapes):
        series = [
            (names, odd.get(i, [(value, t_ms + sum(i > change for change in changes)) for value, t_ms in points]))
            for i, (names, points) in enumerate(scrape(number, zeros))
            if i not in missing
        ]
        bounds = [0, *sorted(set(cuts)), len(series)]
        for start, stop in pairwise(bounds):
            assert rows(write_request(*series[start:stop])) == expected(*series[start:stop])


@settings(max_examples=40)
@given(st.sets(st.integers(1, 149), max_size=4), st.sets(st.integers(0, 149), max_size=3))
def test_blocks_are_the_same_whether_runs_are_recognised_or_cut_one_by_one(cuts: set[int], changes: set[int]) -> None:
    remote_write.forget()
    for number in range(3):
        samples_of(write_request(*scrape(number)))
    bounds = [0, *sorted(cuts), MORE_SERIES_THAN_A_RUN_HAS]
    moved = [
        (names, [(value, t_ms + sum(i > change for change in changes)) for value, t_ms in points])
        for i, (names, points) in enumerate(scrape(9))
    ]
    bodies = [write_request(*moved[start:stop]) for start, stop in pairwise(bounds)]

    def blocks(body: bytes) -> set[bytes]:
        return {entry for entry in samples_of(body).series if is_block(entry)}

    for body in bodies * 2:  # twice: all that becomes a block has become one
        samples_of(body)
    recognised = [blocks(body) for body in bodies]
    remote_write._patterns.clear()
    assert recognised == [blocks(body) for body in bodies]


def test_a_run_that_does_not_end_by_itself_goes_on_when_the_next_series_has_its_time() -> None:
    """Two targets, scraped at different times, then at one: the run over their border is cut as if seen first."""
    first, second = scrape(0, count=3), [({"__name__": "z", "i": str(i)}, [(1.0, T_MS)]) for i in range(3)]
    apart = [*first, *((names, [(1.0, T_MS + 1)]) for names, _ in second)]
    for _ in range(3):
        samples_of(write_request(*apart))
    assert known_parts(write_request(*apart)) == 6
    assert known_parts(write_request(*first, *second)) == 0
    assert rows(write_request(*first, *second)) == expected(*first, *second)


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 3))
def test_a_known_request_with_any_byte_changed_is_read_as_the_full_parser_reads_it(
    place: int, byte: int, insert: int
) -> None:
    body = write_request(*scrape(0, frozenset({3, 40})))
    for _ in range(3):
        samples_of(body)
    at = place % len(body)
    changed = body[:at] + bytes([byte]) * insert + body[at + (insert != 2) :]

    def outcome() -> object:
        try:
            return rows(changed)
        except DecodeError as error:
            return error.reason

    recognised = outcome()
    remote_write.forget()
    assert recognised == outcome()


def test_a_request_of_many_half_known_runs_is_read_in_one_pass() -> None:
    """The copy that is compared grows with the request, not with the number of runs that fail in it."""
    known = scrape(0, count=2_000)
    for _ in range(2):
        samples_of(write_request(*known))
    rng = random.Random(7)
    looked_at = 0
    patterns = remote_write._patterns
    find = patterns._find

    def counted(body: bytes, start: int) -> object:
        nonlocal looked_at
        found, lost = find(body, start)
        looked_at += lost - start
        return found, lost

    patterns._find = counted  # type: ignore[method-assign,assignment]
    try:
        body = write_request(*scrape(1, frozenset(rng.sample(range(2_000), 60)), 2_000))
        assert len(list(patterns.split(body))) > 3
    finally:
        del patterns._find
    assert looked_at <= len(body)


def test_patterns_are_bounded_in_number_and_too_long_ones_are_not_kept() -> None:
    patterns = Patterns(limit=10)
    for i in range(100):
        patterns.learn([b"\x0a\x02%d" % i], [18], [b"{}"], b"")
    assert len(patterns._known) <= 20
    patterns.clear()
    patterns.learn([b"x" * 70_000], [18], [b"{}"], b"")
    assert not len(patterns._known)


@given(st.integers(2**35, 2**42 - 1))
def test_times_are_read_from_six_varint_bytes(t_ms: int) -> None:
    wire = bytes((t_ms >> 7 * byte) & 0x7F | (0x80 if byte < 5 else 0) for byte in range(6))
    assert varint_times(np.array([int.from_bytes(wire, "little")], np.int64)).tolist() == [t_ms]


def test_an_unknown_field_between_known_series_is_passed_over_as_protobuf_does() -> None:
    body = write_request(*scrape(0))
    for _ in range(2):
        samples_of(body)
    metadata = b"\x1a\x02\x08\x01"  # field 3 of a WriteRequest
    assert rows(body + metadata + body) == sorted(rows(body) * 2)
    with pytest.raises(DecodeError, match="bad_protobuf"):
        remote_write.decode(bytes(cramjam.snappy.compress_raw(body + b"\x0a\x7f")), HEADERS, 0)
