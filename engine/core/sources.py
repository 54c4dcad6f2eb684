"""Where time enters: decoded events become numbered batches that carry their source's watermark.

Everything after the connectors runs on event time, and the only thing it knows about lateness is the watermark that
each batch brings along: a promise that nothing older follows from this source. `SourceClock` makes that promise for
one source, keeps it (older events are counted as late and kept out), and decides when a quiet source says so.

The promise never covers data that the broker has not acknowledged. Were it otherwise, a request whose delivery failed
would find itself late when its client sends it again:

    request A  ---stamp----x failed ..............retry: accepted
    request B       ---stamp-----ack
    watermark  ------------------|held below A's oldest event|--> moves on

So the watermark follows what was *delivered*, stays below whatever is on its way, and, after a failure, below the
failed events until they came again or `retry_hold_ms` have passed. Numbers of failed batches are not used again: a
gap is harmless, since a repetition is recognised by (epoch, seq) not being greater than the last one seen.

A sender may send side by side (Prometheus has shards, each in order and with its own pauses after a failure). What one
of them sends says nothing about the others as long as there may be a backlog: after a start, after a failed or refused
request, and while requests hold events older than `lateness_ms` allows. Until `settle_ms` after each such request the
watermark stays below its oldest event: by then the others will have been heard, and hold it themselves.

    shard 1   -- fails, fails ----> 10:00 10:02 10:04 ... 10:30        (caught up)
    shard 2   -- fails, fails -- waits 5 s ---------> 10:00 10:02 ...
    watermark                       |held at 10:00 - lateness|---> follows the slower one

The next module in the flow is `core.router`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from msgspec import Raw, Struct

from engine.core.batching import (
    MAX_LABEL_BYTES,
    Events,
    Samples,
    Streams,
    count,
    label_sizes,
    line_is_too_long,
    split_samples,
    split_streams,
)
from engine.core.blocks import Runs
from engine.core.messages import Batch, LogBatch, LogStream, MetricBatch, pack

Kind = Literal["metrics", "logs"]

_RUNS_OF_A_SOURCE = 10_000
_IDLE_PACE_MS = 1_000
_MOST_SKEW_MS = 300_000
_CATCH_UP_MS = 100
_DENSE_GAP_MS = 60  # a little more than the distance that a publisher keeps between messages


class SourceTiming(Struct, frozen=True):
    """What may be expected of a source's clock and order.

    `lateness_ms`: how far out of order events may arrive, and how long a pause must be before everything seen counts
    as complete. A sender that holds events back (Prometheus's `batch_send_deadline`, an agent's batch wait) needs at
    least that. `idle_after_ms`: a pause after which event time is taken to go on with the wall clock. `settle_ms`: how
    long the parallel parts of a sender may pause after a failure (Prometheus's `max_backoff`); 0 for one that sends in
    order.
    `max_ahead_ms`: events further in the future than this are refused. `max_behind_ms`: how old the first events of a
    source may be. `retry_hold_ms`: how long the events of a failed delivery are waited for.
    """

    lateness_ms: int
    idle_after_ms: int
    max_ahead_ms: int = 600_000
    max_behind_ms: int = 86_400_000
    retry_hold_ms: int = 60_000
    settle_ms: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What is taken of the events of one request: how many, the span of their times (rounded outwards), and the rest.

    `dropped` is what was kept out, by reason. `ticket` is the clock's own number of it.
    """

    events: Events
    dropped: Mapping[str, int]
    oldest_ms: int = 0
    newest_ms: int = 0
    ticket: int = 0

    @property
    def accepted(self) -> int:
        """How many events there are."""
        return count(self.events)


class Stamp(Struct, frozen=True):
    """Requests made ready: their batches to send in order. Tell the clock how it went with this very stamp."""

    batches: tuple[Batch, ...] = ()
    requests: tuple[Request, ...] = ()


class _Failed(Struct, frozen=True):
    """A delivery that failed: the span of its events, the last number given by then, how long to wait for them."""

    oldest_ms: int
    newest_ms: int
    seq: int
    until_ms: int

    def came_again(self, stamp: Stamp) -> bool:
        """Whether a later request holds these events: only one that was stamped after the failure can."""
        return stamp.batches[0].seq > self.seq and any(
            one.oldest_ms <= self.oldest_ms and one.newest_ms >= self.newest_ms for one in stamp.requests
        )


class _Unsettled:
    """The oldest event of the requests that may be part of a backlog, over the last `settle_ms`."""

    def __init__(self, start_ms: int, settle_ms: int) -> None:
        self._settle_ms = settle_ms
        self._until_ms = start_ms + settle_ms
        self._requests: deque[tuple[int, int]] = deque()  # (until, oldest event), both ascending

    def begin(self, now_ms: int) -> None:
        """Something was not taken: what comes for a while may be a backlog."""
        self._until_ms = max(self._until_ms, now_ms + self._settle_ms)

    def note(self, oldest_ms: int, now_ms: int, lateness_ms: int) -> None:
        """A request came."""
        if not self._settle_ms or (now_ms >= self._until_ms and oldest_ms >= now_ms - lateness_ms):
            return
        while self._requests and self._requests[-1][1] >= oldest_ms:
            self._requests.pop()
        self._requests.append((now_ms + self._settle_ms, oldest_ms))

    def oldest_ms(self, now_ms: int) -> int | None:
        """Below this the watermark has to stay; None if nothing holds it."""
        while self._requests and self._requests[0][0] <= now_ms:
            self._requests.popleft()
        return self._requests[0][1] if self._requests else None


class SourceClock:
    """Numbers, watermark and heartbeats of one source.

    `epoch` tells runs apart: milliseconds at which this clock was made, so a later clock of the same source has a
    greater one. Wall-clock arguments (`now_ms`) may go backwards without harm.
    """

    def __init__(self, source: str, kind: Kind, epoch: int, timing: SourceTiming) -> None:
        self.source = source
        self.kind = kind
        self.timing = timing
        self._epoch = epoch
        self._seq = 0
        self._promised_ms: int | None = None
        self._newest_ms: int | None = None  # of what was delivered
        self._data_at_ms = 0
        self._stamped_at_ms = 0
        self._stamp_gap_ms = _CATCH_UP_MS
        self._beat_at_ms = 0
        self._say_again = False
        self._tickets = 0
        self._in_flight: dict[int, int] = {}  # by ticket, the oldest event of a request that is not delivered yet
        self._failed: list[_Failed] = []
        self._unsettled = _Unsettled(epoch, timing.settle_ms)
        self._runs = Runs(_RUNS_OF_A_SOURCE)

    @property
    def watermark_ms(self) -> int | None:
        """The promise made so far; None before the first event."""
        return self._promised_ms

    def admit(self, events: Events, now_ms: int) -> Request:
        """Take the events of a request; late, far-future and oversized ones are kept out and counted.

        Until it is delivered or has failed the watermark stays below them. A request of which nothing is left needs
        neither that nor a stamp.
        """
        floor_ms = self._floor_ms(now_ms)
        request = _admit(events, floor_ms, now_ms + self.timing.max_ahead_ms)
        if not request.accepted:
            return request
        if self._promised_ms is None:
            self._promised_ms = max(floor_ms, request.oldest_ms - self.timing.lateness_ms)
        self._tickets += 1
        self._in_flight[self._tickets] = request.oldest_ms
        self._data_at_ms = now_ms
        self._unsettled.note(request.oldest_ms, now_ms, self.timing.lateness_ms)
        return replace(request, ticket=self._tickets)

    def stamp(self, requests: Sequence[Request], now_ms: int) -> Stamp:
        """Put admitted requests into numbered batches, as few as may be, with the watermark as it is now."""
        held = tuple(request for request in requests if request.accepted)
        if not held:
            return Stamp()
        self._stamp_gap_ms, self._stamped_at_ms = now_ms - self._stamped_at_ms, now_ms
        if self._newest_ms is not None:
            self._promise(min(self._newest_ms, now_ms) - self.timing.lateness_ms, now_ms)
        pieces = _split([request.events for request in held])
        return Stamp(tuple(self._batch(piece, now_ms) for piece in pieces), held)

    def delivered(self, stamp: Stamp) -> None:
        """Every batch of the stamp was acknowledged by the broker."""
        for request in stamp.requests:
            self._in_flight.pop(request.ticket, None)
            newest_ms = request.newest_ms
            self._newest_ms = newest_ms if self._newest_ms is None else max(self._newest_ms, newest_ms)
        self._failed = [failed for failed in self._failed if not failed.came_again(stamp)]

    def failed(self, stamp: Stamp, now_ms: int) -> None:
        """Some batch of the stamp was not acknowledged; the clients will send their events again."""
        for request in stamp.requests:
            self._in_flight.pop(request.ticket, None)
            self._await_again(request.oldest_ms, request.newest_ms, now_ms)
        self._say_again = True

    def refused(self, events: Events, now_ms: int) -> None:
        """A request was turned away before it was stamped; the client will send it again."""
        request = _admit(events, self._floor_ms(now_ms), now_ms + self.timing.max_ahead_ms)
        if request.accepted:
            self._await_again(request.oldest_ms, request.newest_ms, now_ms)

    def heartbeat(self, now_ms: int) -> Batch | None:
        """An empty batch that moves the watermark, if there is something to say; ask often (every few dozen ms).

        After a pause of `lateness_ms` everything delivered is complete: the watermark is one millisecond past the
        newest event, so that rules are evaluated at that event's own time too. After `idle_after_ms` it goes on with
        the wall clock, said once a second: as far behind it as the source's own clock is. A source whose last events
        came more than five minutes old has sent a backlog, and is taken to be at the present. While data flows it makes
        up for what batches in flight held back.
        """
        if self._newest_ms is None or self._promised_ms is None:
            return None
        quiet_ms = now_ms - self._data_at_ms
        newest_ms = min(self._newest_ms, now_ms)  # one event from a fast clock must not make all others late
        due_ms, pace_ms = newest_ms - self.timing.lateness_ms, _CATCH_UP_MS
        if quiet_ms >= self.timing.idle_after_ms:
            was_backlog = self._data_at_ms - newest_ms > _MOST_SKEW_MS  # no clock is that slow; and it has ended
            due_ms = now_ms - self.timing.lateness_ms if was_backlog else due_ms + quiet_ms
            due_ms, pace_ms = min(max(due_ms, newest_ms + 1), now_ms + 1), _IDLE_PACE_MS
        elif quiet_ms >= self.timing.lateness_ms:
            due_ms, pace_ms = newest_ms + 1, 0
        elif (due_ms < self._promised_ms + _CATCH_UP_MS or self._is_dense(now_ms)) and not self._say_again:
            return None  # the next batch will say it
        if self._say_again:
            pace_ms = max(pace_ms, _CATCH_UP_MS)  # a broker that is away is not asked more often
        if 0 <= now_ms - self._beat_at_ms < pace_ms:
            return None
        if not self._promise(due_ms, now_ms) and not self._say_again:
            return None
        self._beat_at_ms = now_ms
        self._say_again = False
        return self._batch([], now_ms)

    def complete(self, to_ms: int, now_ms: int) -> Batch | None:
        """For a source that knows how far it is: nothing older than `to_ms` follows. The batch that says so, if any.

        Data on its way and data that failed still hold the watermark; `watermark_ms` tells how far it went.
        """
        return self._batch([], now_ms) if self._promise(to_ms, now_ms) else None

    def heartbeat_failed(self) -> None:
        """The last heartbeat was not acknowledged: its watermark is said again."""
        self._say_again = True

    def _is_dense(self, now_ms: int) -> bool:
        """Whether batches come so fast that the next one is about to say it, going by the last two."""
        return self._stamp_gap_ms <= _DENSE_GAP_MS and now_ms - self._stamped_at_ms < 2 * self._stamp_gap_ms

    def _floor_ms(self, now_ms: int) -> int:
        """What is older than this is late."""
        return max(0, now_ms - self.timing.max_behind_ms) if self._promised_ms is None else self._promised_ms

    def _await_again(self, oldest_ms: int, newest_ms: int, now_ms: int) -> None:
        """Hold the watermark below events that will be sent again."""
        self._failed.append(_Failed(oldest_ms, newest_ms, self._seq, now_ms + self.timing.retry_hold_ms))
        self._unsettled.begin(now_ms)

    def _promise(self, due_ms: int, now_ms: int) -> bool:
        """Raise the watermark towards `due_ms` as far as undelivered data allows; whether it moved."""
        self._failed = [failed for failed in self._failed if now_ms < failed.until_ms]
        due_ms = min([due_ms, *self._in_flight.values(), *(failed.oldest_ms for failed in self._failed)])
        unsettled_ms = self._unsettled.oldest_ms(now_ms)
        if unsettled_ms is not None:
            due_ms = min(due_ms, unsettled_ms - self.timing.lateness_ms)
        if self._promised_ms is not None and due_ms <= self._promised_ms:
            return False
        self._promised_ms = due_ms
        return True

    def _batch(self, piece: Samples | Streams, now_ms: int) -> Batch:
        self._seq += 1
        watermark_ms = self._promised_ms or 0
        head = (self.source, self._epoch, self._seq, watermark_ms, now_ms)
        if isinstance(piece, Samples):
            series, t_ms = piece.series, piece.t_ms
            if piece.counts is None:
                series, ends = self._runs.pack(series, t_ms)
                t_ms = t_ms[ends - 1]
            return MetricBatch(*head, list(map(Raw, series)), t_ms.tolist(), pack(piece.values))
        return LogBatch(*head, piece) if self.kind == "logs" else MetricBatch(*head)


def _split(parts: Sequence[Events]) -> list[Samples] | list[Streams]:
    """All events of one source's requests, in order, in pieces that fit into a message."""
    if isinstance(parts[0], Samples):
        samples = Samples.concat(part for part in parts if isinstance(part, Samples))
        return list(split_samples(samples, label_sizes(samples)))
    return list(split_streams([stream for part in parts if isinstance(part, list) for stream in part]))


def _admit(events: Events, floor_ms: int, ceiling_ms: int) -> Request:
    if isinstance(events, Samples):
        return _admit_samples(events, floor_ms, ceiling_ms)
    return _admit_streams(events, floor_ms, ceiling_ms)


def _admit_samples(samples: Samples, floor_ms: int, ceiling_ms: int) -> Request:
    if _is_usual(samples, floor_ms, ceiling_ms):
        return Request(samples, {}, int(samples.t_ms.min()), int(samples.t_ms.max()))
    sizes = label_sizes(samples)
    late, future = samples.t_ms < floor_ms, samples.t_ms > ceiling_ms
    oversized = (sizes > MAX_LABEL_BYTES * (1 if samples.counts is None else samples.counts)) & ~late & ~future
    found = {"late": late, "future": future, "labels_too_long": oversized}
    dropped = {reason: len(samples.where(mask)) for reason, mask in found.items() if mask.any()}
    if dropped:
        kept = ~(late | future | oversized)
        samples = samples.where(kept)
    if not len(samples):
        return Request(samples, dropped)
    return Request(samples, dropped, int(samples.t_ms.min()), int(samples.t_ms.max()))


def _is_usual(samples: Samples, floor_ms: int, ceiling_ms: int) -> bool:
    """Whether there is nothing to keep out: the common case, for which a look at the extremes is enough."""
    if not len(samples) or samples.t_ms.min() < floor_ms or samples.t_ms.max() > ceiling_ms:
        return False
    return max(map(len, samples.series)) <= MAX_LABEL_BYTES


def _admit_streams(streams: Streams, floor_ms: int, ceiling_ms: int) -> Request:
    floor_ns, ceiling_ns = floor_ms * 1_000_000, ceiling_ms * 1_000_000
    dropped: Counter[str] = Counter()
    kept: Streams = []
    for stream in streams:
        if len(stream.labels) > MAX_LABEL_BYTES:
            dropped["labels_too_long"] += len(stream.entries)
            continue
        entries = []
        for entry in stream.entries:
            if entry.t_ns < floor_ns:
                dropped["late"] += 1
            elif entry.t_ns > ceiling_ns:
                dropped["future"] += 1
            elif line_is_too_long(entry):
                dropped["line_too_long"] += 1
            else:
                entries.append(entry)
        if entries:
            kept.append(LogStream(stream.labels, entries))
    if not kept:
        return Request([], dict(dropped))
    oldest_ns = min(stream.entries[0].t_ns for stream in kept)
    newest_ns = max(stream.entries[-1].t_ns for stream in kept)
    return Request(kept, dict(dropped), oldest_ns // 1_000_000, -(-newest_ns // 1_000_000))
