"""What a source's clock promises, and that it keeps the promise."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from engine.core.batching import MAX_BYTES, MAX_EVENTS, Events, Samples, label_sizes, split_samples, split_streams
from engine.core.messages import LogBatch, LogEntry, LogStream, MetricBatch, decode_batch, encode, pack
from engine.core.sources import SourceClock, SourceTiming, Stamp
from engine.core.window import STALE

TIMING = SourceTiming(lateness_ms=100, idle_after_ms=10_000, max_ahead_ms=600_000)
SERIES = b'{"__name__":"up"}'
NOW = 1_700_000_000_000


def samples(*times_ms: int, value: float = 1.0) -> Samples:
    return Samples([SERIES] * len(times_ms), np.array(times_ms, np.int64), np.full(len(times_ms), value))


def lines(*times_ns: int, text: str = "x") -> list[LogStream]:
    return [LogStream(Raw(b'{"job":"a"}'), [LogEntry(t_ns, text) for t_ns in times_ns])]


def clock(kind: str = "metrics", timing: SourceTiming = TIMING) -> SourceClock:
    return SourceClock("source", "logs" if kind == "logs" else "metrics", 7, timing)


class Stamped(Stamp, frozen=True):
    """A stamp of one request, with what became of its events."""

    dropped: Mapping[str, int] = {}
    accepted: int = 0
    oldest_ms: int = 0


def stamped(source: SourceClock, events: Events, at_ms: int) -> Stamped:
    request = source.admit(events, at_ms)
    stamp = source.stamp([request], at_ms)
    return Stamped(stamp.batches, stamp.requests, request.dropped, request.accepted, request.oldest_ms)


def send(source: SourceClock, at_ms: int, *times_ms: int) -> Stamped:
    """Stamp and deliver at once."""
    stamp = stamped(source, samples(*times_ms), at_ms)
    if stamp.batches:
        source.delivered(stamp)
    return stamp


def test_a_batch_names_its_source_and_is_numbered_from_one():
    source = clock()
    first, second = send(source, NOW, NOW), send(source, NOW, NOW)
    (batch,) = first.batches
    assert batch == MetricBatch("source", 7, 1, NOW - 100, NOW, [Raw(SERIES)], [NOW], pack([1.0]))
    assert second.batches[0].seq == 2


def test_the_watermark_follows_the_newest_delivered_event_by_the_lateness():
    #  event     1000        1500              (newest first delivered, then promised)
    #  watermark  900 in 1st  900 in 2nd  1400 in 3rd
    source = clock()
    marks = [send(source, NOW + t, NOW + t).batches[0].watermark_ms - NOW for t in (1000, 1500, 1500)]
    assert marks == [900, 900, 1400]


def test_events_older_than_the_watermark_are_late_and_those_at_it_are_not():
    source = clock()
    send(source, NOW, NOW)
    assert source.heartbeat(NOW + 100).watermark_ms == NOW + 1
    assert send(source, NOW + 200, NOW, NOW + 1, NOW + 2).dropped == {"late": 1}


def test_events_too_far_in_the_future_are_refused_and_do_not_move_the_watermark():
    source = clock()
    assert send(source, NOW, NOW, NOW + 600_001).dropped == {"future": 1}
    assert source.heartbeat(NOW + 100).watermark_ms == NOW + 1


def test_a_source_that_has_just_appeared_cannot_reach_back_for_ever():
    stamp = send(clock(), NOW, 1_700_000_000, NOW - 1_000)
    assert (stamp.dropped, stamp.batches[0].watermark_ms) == ({"late": 1}, NOW - 1_100)


@pytest.mark.parametrize(
    ("quiet_ms", "expected"),
    [
        (99, None),  # may still go on
        (100, 1),  # a pause as long as the lateness: everything seen is complete
        (9_999, 1),
        (10_000, 9_900),  # idle: event time goes on with the wall clock, behind it by the lateness
        (25_000, 24_900),
    ],
)
def test_a_quiet_source_says_how_far_it_is(quiet_ms: int, expected: int | None):
    source = clock()
    send(source, NOW, NOW)
    beat = source.heartbeat(NOW + quiet_ms)
    assert (beat and beat.watermark_ms - NOW) == expected


def test_a_heartbeat_is_an_empty_batch_of_the_sources_kind_with_the_next_number():
    source = clock("logs")
    source.delivered(stamped(source, lines(NOW * 1_000_000), NOW))
    assert source.heartbeat(NOW + 100) == LogBatch("source", 7, 2, NOW + 1, NOW + 100)


def test_an_idle_source_beats_once_a_second():
    source = clock()
    send(source, NOW, NOW)
    beats = [t for t in range(0, 14_000, 20) if source.heartbeat(NOW + t)]
    assert beats == [100, 10_000, 11_000, 12_000, 13_000]


def test_a_source_that_delivered_nothing_has_nothing_to_say():
    source = clock()
    stamp = stamped(source, samples(NOW), NOW)
    assert source.heartbeat(NOW + 60_000) is None
    source.failed(stamp, NOW + 60_000)
    assert source.heartbeat(NOW + 60_000) is None


def test_a_log_time_inside_a_millisecond_is_complete_only_after_that_millisecond():
    source = clock("logs")
    source.delivered(stamped(source, lines(NOW * 1_000_000 + 1), NOW))
    assert source.heartbeat(NOW + 100).watermark_ms == NOW + 2


def test_the_watermark_stays_below_data_on_its_way():
    #  A (oldest 0) in flight ------------------------------ acknowledged
    #  B (1000)        acknowledged    heartbeat: only 0      heartbeat: 1001
    source = clock()
    send(source, NOW, NOW)
    first = stamped(source, samples(NOW, NOW + 500), NOW + 500)
    send(source, NOW + 1000, NOW + 1000)
    assert source.heartbeat(NOW + 1200).watermark_ms == NOW
    source.delivered(first)
    assert source.heartbeat(NOW + 1300).watermark_ms == NOW + 1001


def test_one_event_from_a_fast_clock_does_not_make_the_next_ones_late():
    source = clock()
    send(source, NOW, NOW)
    send(source, NOW + 100, NOW + 500_000)
    source.heartbeat(NOW + 300)
    assert send(source, NOW + 1_000, NOW + 950).dropped == {}


def test_a_failure_is_waited_for_although_a_request_beside_it_got_through():
    #  A failed --------------------------- again: taken
    #  B (in flight beside it) acknowledged
    source = clock()
    send(source, NOW, NOW)
    lost = stamped(source, samples(NOW + 50, NOW + 60), NOW + 60)
    beside = stamped(source, samples(NOW + 40, NOW + 900), NOW + 900)
    source.failed(lost, NOW + 950)
    source.delivered(beside)
    for quiet_ms in range(0, 5_000, 50):
        source.heartbeat(NOW + 1_000 + quiet_ms)
    assert send(source, NOW + 6_000, NOW + 50, NOW + 60).dropped == {}


def test_what_failed_is_not_late_when_it_is_sent_again():
    source = clock()
    send(source, NOW, NOW)
    lost = stamped(source, samples(NOW + 50, NOW + 900), NOW + 900)
    source.failed(lost, NOW + 950)
    send(source, NOW + 1_000, NOW + 1_000)
    for quiet_ms in range(0, 30_000, 500):
        source.heartbeat(NOW + 1_000 + quiet_ms)
    again = send(source, NOW + 31_000, NOW + 50, NOW + 900)
    assert (again.dropped, again.accepted) == ({}, 2)
    assert again.batches[0].seq > lost.batches[0].seq
    assert source.heartbeat(NOW + 31_100).watermark_ms == NOW + 1_001


def test_what_failed_and_never_comes_again_holds_the_watermark_for_a_bounded_time():
    source = clock()
    send(source, NOW, NOW)
    source.failed(stamped(source, samples(NOW + 50), NOW + 50), NOW + 50)
    assert source.heartbeat(NOW + 60_049).watermark_ms == NOW + 50
    assert source.heartbeat(NOW + 61_050).watermark_ms > NOW + 50


def test_a_heartbeat_that_failed_is_said_again():
    source = clock()
    send(source, NOW, NOW)
    said = source.heartbeat(NOW + 100)
    assert source.heartbeat(NOW + 200) is None
    source.heartbeat_failed()
    again = source.heartbeat(NOW + 300)
    assert (again.watermark_ms, again.seq) == (said.watermark_ms, said.seq + 1)


def test_a_wall_clock_that_jumps_back_does_no_harm():
    source = clock()
    send(source, NOW, NOW)
    assert source.heartbeat(NOW - 5_000) is None
    assert send(source, NOW - 5_000, NOW + 1).dropped == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), STALE, -0.0, 5e-324, 0.1])
def test_a_value_goes_over_the_topic_bit_by_bit(value: float):
    (batch,) = stamped(clock(), samples(NOW, value=value), NOW).batches
    got = decode_batch(encode(batch))
    assert isinstance(got, MetricBatch)
    assert got.numbers.tobytes() == struct.pack("<d", value)


def test_values_stand_by_the_place_of_their_bytes():
    assert pack([1.0, -2.0]) == bytes([0, 0] * 6 + [0xF0, 0x00] + [0x3F, 0xC0])


def test_a_line_over_the_limit_is_refused_and_counted_and_its_neighbours_are_taken():
    stream = LogStream(Raw(b'{"job":"a"}'), [LogEntry(NOW * 1_000_000, text) for text in ("a", "b" * 262_145, "c")])
    stamp = stamped(clock("logs"), [stream], NOW)
    assert (stamp.dropped, [entry.line for entry in stamp.batches[0].streams[0].entries]) == (
        {"line_too_long": 1},
        ["a", "c"],
    )


@pytest.mark.parametrize("line", ["é" * 131_072, "x" * 262_144])
def test_a_line_at_the_limit_of_256_kib_of_utf8_is_taken(line: str):
    assert stamped(clock("logs"), lines(NOW * 1_000_000, text=line), NOW).dropped == {}


def test_a_line_that_no_message_could_hold_once_escaped_is_refused():
    assert stamped(clock("logs"), lines(NOW * 1_000_000, text="\x00" * 200_000), NOW).dropped == {"line_too_long": 1}


def test_a_label_set_over_64_kib_is_refused_and_counted():
    huge = b'{"a":"' + b"x" * 65_536 + b'"}'
    stamp = stamped(clock(), Samples([huge, SERIES], np.full(2, NOW), np.ones(2)), NOW)
    assert (stamp.dropped, stamp.accepted) == ({"labels_too_long": 1}, 1)
    stamp = stamped(clock("logs"), [LogStream(Raw(huge), [LogEntry(NOW * 1_000_000, "x")])], NOW)
    assert (stamp.dropped, stamp.batches) == ({"labels_too_long": 1}, ())


@given(st.lists(st.integers(10, 3_000), max_size=300), st.integers(1, 40), st.integers(3_500, 20_000))
def test_pieces_of_samples_fit_and_lose_nothing(sizes: list[int], max_events: int, max_bytes: int):
    given_samples = Samples([b"x" * size for size in sizes], np.arange(len(sizes)), np.ones(len(sizes)))
    pieces = list(split_samples(given_samples, label_sizes(given_samples), max_events, max_bytes))
    assert [t for piece in pieces for t in piece.t_ms.tolist()] == list(range(len(sizes)))
    assert all(0 < len(piece) <= max_events for piece in pieces)
    for piece in pieces:
        batch = MetricBatch("s", 1, 1, 0, 0, list(map(Raw, piece.series)), [10**18] * len(piece), pack(piece.values))
        assert len(encode(batch)) <= max_bytes + 150  # names and numbers of the batch itself


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=1, max_size=20), max_size=10),
    st.integers(1, 12),
    st.integers(700, 3_000),
)
def test_pieces_of_streams_fit_and_lose_nothing(streams: list[list[str]], max_events: int, max_bytes: int):
    whole = [
        LogStream(Raw(b'{"n":"%d"}' % i), [LogEntry(j, text) for j, text in enumerate(texts)])
        for i, texts in enumerate(streams)
    ]
    pieces = list(split_streams(whole, max_events, max_bytes))

    def flat(parts: list[LogStream]) -> list[tuple[bytes, int, str]]:
        return [(bytes(part.labels), entry.t_ns, entry.line) for part in parts for entry in part.entries]

    assert [row for piece in pieces for row in flat(piece)] == flat(whole)
    assert all(1 <= len(flat(piece)) <= max_events for piece in pieces)
    assert all(len(encode(LogBatch("", 0, 0, 0, 0, piece))) <= max_bytes + 100 for piece in pieces)


def test_the_largest_batches_stay_below_900_kilobytes():
    label = b'{"a":"' + b"x" * 1_000 + b'"}'
    many = Samples([label] * 20_000, np.full(20_000, NOW), np.full(20_000, -1.2345678901234567e-300))
    messages = [encode(batch) for batch in stamped(clock(), many, NOW).batches]
    messages += [
        encode(b) for b in stamped(clock("logs"), lines(*[NOW * 1_000_000] * 9_000, text="\t" * 500), NOW).batches
    ]
    assert max(map(len, messages)) < MAX_BYTES + 10_000
    assert len(stamped(clock(), samples(*[NOW] * (MAX_EVENTS + 1)), NOW).batches) == 2


# (wall ms that pass, event times relative to the wall, delivered?, settled at once?)
Step = tuple[int, list[int], bool, bool]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 15_000),
        st.lists(st.integers(-3_000, 700_000) | st.integers(-200, 50), max_size=8),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


@given(STEPS, st.integers(0, 500), st.integers(0, 20_000))
def test_whatever_happens_the_promises_hold(steps: list[Step], lateness_ms: int, idle_after_ms: int):
    source = clock(timing=SourceTiming(lateness_ms, idle_after_ms))
    now_ms, seq, watermark_ms = NOW, 0, 0
    waiting: list[tuple[Stamp, bool]] = []

    def check(batch: MetricBatch) -> None:
        nonlocal seq, watermark_ms
        assert batch.seq == seq + 1
        assert batch.watermark_ms >= watermark_ms
        assert all(t_ms >= watermark_ms for t_ms in batch.t_ms)
        seq, watermark_ms = batch.seq, batch.watermark_ms

    def settle(stamp: Stamp, is_delivered: bool) -> None:
        if is_delivered:
            source.delivered(stamp)
        else:
            source.failed(stamp, now_ms)
            assert source.watermark_ms <= stamp.oldest_ms

    for passed_ms, offsets, is_delivered, at_once in steps:
        now_ms += passed_ms
        stamp = stamped(source, samples(*[now_ms + offset for offset in offsets]), now_ms)
        assert stamp.accepted + sum(stamp.dropped.values()) == len(offsets)
        for batch in stamp.batches:
            check(batch)
        if stamp.batches:
            waiting.append((stamp, is_delivered))
        if at_once:
            while waiting:
                settle(*waiting.pop())
        beat = source.heartbeat(now_ms)
        if beat is not None:
            check(beat)


SHARDED = SourceTiming(lateness_ms=100, idle_after_ms=60_000, settle_ms=1_000)


#  wall clock   0      200     900     1200    1999    2000
#  shard 1      -5000  -3000   0
#  shard 2                     -5050           -2000
#  watermark           -5100                           -2100 and on
def test_after_a_start_a_shard_that_still_pauses_is_waited_for():
    source = SourceClock("source", "metrics", NOW, SHARDED)
    for at_ms, t_ms in [(0, -5_000), (200, -3_000), (900, -5_050), (900, 0), (1_200, -2_000)]:
        assert send(source, NOW + at_ms, NOW + t_ms).dropped == {}
    assert source.watermark_ms == NOW - 5_100
    beat = source.heartbeat(NOW + 2_000)  # the second shard was last heard of, and behind, at 1200
    assert beat is not None
    assert beat.watermark_ms == NOW - 2_100


def test_a_sender_that_is_never_on_time_moves_the_watermark_all_the_same():
    source = SourceClock("source", "metrics", NOW, SHARDED)
    for at_ms in range(0, 10_000, 500):
        send(source, NOW + at_ms, NOW + at_ms - 30_000)  # its clock is half a minute behind
    assert source.watermark_ms == NOW + 9_500 - 30_000 - 1_000 + 500 - 100


def test_a_request_that_was_turned_away_is_waited_for():
    source = SourceClock("source", "metrics", NOW - 60_000, SHARDED)
    send(source, NOW, NOW)
    source.refused(samples(NOW + 10, NOW + 20), NOW + 30)
    send(source, NOW + 20_000, NOW + 20_000)
    assert send(source, NOW + 21_000, NOW + 21_000).batches[0].watermark_ms == NOW + 10
    assert send(source, NOW + 22_000, NOW + 10, NOW + 20).dropped == {}
    source.heartbeat(NOW + 23_000)
    assert source.watermark_ms == NOW + 21_001


@given(st.data(), st.integers(1, 4))
def test_shards_that_pause_no_longer_than_settle_ms_lose_nothing_after_an_outage(data: st.DataObject, shards: int):
    outage_ms = data.draw(st.integers(0, 30_000))
    sends: list[tuple[int, int, list[int]]] = []
    for shard in range(shards):
        pending = list(range(-outage_ms, 3_000, 250))
        at_ms = data.draw(st.integers(0, 900))
        while pending:
            ready = max(1, sum(t_ms <= at_ms for t_ms in pending))
            size = min(ready, data.draw(st.integers(1, 40)))
            at_ms = max(at_ms, pending[size - 1])
            sends.append((at_ms, shard, pending[:size]))
            pending = pending[size:]
            oldest_wait = max(0, pending[0] + 99 - at_ms) if pending else 0  # on time: within the lateness
            at_ms += data.draw(st.integers(0, 900 if oldest_wait == 0 else min(900, oldest_wait)))
    source = SourceClock("source", "metrics", NOW, SHARDED)
    dropped = 0
    for at_ms, _, times in sorted(sends):
        source.heartbeat(NOW + at_ms)
        dropped += sum(send(source, NOW + at_ms, *(NOW + t_ms for t_ms in times)).dropped.values())
    assert dropped == 0


def test_requests_that_waited_share_a_batch_and_hold_the_watermark_each_by_itself():
    source = clock()
    send(source, NOW, NOW)
    early, late = source.admit(samples(NOW - 90), NOW), source.admit(samples(NOW + 500), NOW + 500)
    send(source, NOW + 600, NOW + 600)
    assert source.watermark_ms <= NOW - 90  # `early` waits for its turn
    stamp = source.stamp([early, late], NOW + 600)
    assert [batch.t_ms for batch in stamp.batches] == [[NOW - 90, NOW + 500]]
    source.delivered(stamp)
    assert send(source, NOW + 700, NOW + 700).batches[0].watermark_ms == NOW + 500


def test_requests_that_failed_together_may_come_again_apart():
    source = clock()
    send(source, NOW, NOW)
    lost = source.stamp([source.admit(samples(t_ms), NOW + 400) for t_ms in (NOW + 10, NOW + 400)], NOW + 400)
    source.failed(lost, NOW + 400)
    assert send(source, NOW + 1_000, NOW + 400).dropped == {}
    assert send(source, NOW + 1_000, NOW + 10).dropped == {}
    assert send(source, NOW + 1_100, NOW + 1_100).batches[0].watermark_ms == NOW + 300


def test_while_batches_come_fast_the_next_one_says_the_watermark_and_a_heartbeat_only_when_it_stays_out():
    """
    batches    . .                     40 ms apart, their events 10 s
    at (ms)    0 40  60  119 120
    heartbeat        -   -   beat
    """
    source = clock()
    send(source, NOW, NOW - 10_000)
    send(source, NOW + 40, NOW)
    assert [source.heartbeat(NOW + at_ms) for at_ms in (60, 119)] == [None, None]
    beat = source.heartbeat(NOW + 120)
    assert beat is not None
    assert beat.watermark_ms == NOW - 100


def test_while_batches_come_slowly_a_heartbeat_says_at_once_what_was_held_back():
    source = clock()
    send(source, NOW, NOW - 10_000)
    send(source, NOW + 61, NOW)
    assert source.heartbeat(NOW + 62) is not None


KNOWING = SourceTiming(lateness_ms=2**53, idle_after_ms=2**53)


def test_a_source_that_knows_how_far_it_is_promises_what_it_says_and_nothing_by_itself():
    source = clock("logs", KNOWING)
    first = source.complete(NOW - 10_000, NOW)
    assert first is not None
    assert (first.watermark_ms, first.streams) == (NOW - 10_000, [])
    stamp = stamped(source, lines((NOW - 5_000) * 10**6), NOW)
    assert stamp.batches[0].watermark_ms == NOW - 10_000
    source.delivered(stamp)
    assert source.heartbeat(NOW + 3_600_000) is None
    assert source.complete(NOW - 10_000, NOW) is None  # nothing new
    assert stamped(source, lines((NOW - 10_001) * 10**6), NOW).dropped == {"late": 1}


def test_what_is_on_its_way_or_was_lost_holds_what_is_said_to_be_complete():
    source = clock("logs", KNOWING)
    source.complete(NOW - 10_000, NOW)
    waiting = stamped(source, lines((NOW - 5_000) * 10**6), NOW)
    source.complete(NOW, NOW)
    assert source.watermark_ms == NOW - 5_000
    source.failed(waiting, NOW)
    assert source.complete(NOW, NOW) is None
    again = stamped(source, lines((NOW - 5_000) * 10**6), NOW)
    source.delivered(again)
    source.complete(NOW, NOW)
    assert source.watermark_ms == NOW
