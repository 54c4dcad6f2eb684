"""The data of `benchmarks.windows` and `benchmarks.logmatch`: JSON log lines of a shop, a tenth of them violations."""

from __future__ import annotations

import random
from collections.abc import Iterator

from msgspec import Raw

from engine.core.messages import LogBatch, LogEntry, LogStream

START_MS = 1_700_000_000_000
USERS = 20_000
LINES_PER_S = 10_000
BATCH_LINES = 1_000
STREAM = b'{"job":"shop"}'
_EVENTS = ("login", "view", "search", "cart", "pay", "logout", "refund", "profile", "export")

Line = tuple[int, str]
"""Time in ms and text."""


def lines(count: int) -> Iterator[Line]:
    """So many lines, `LINES_PER_S` in a second of event time."""
    draw = random.Random(7)
    for number in range(count):
        t_ms = START_MS + number * 1000 // LINES_PER_S
        event = "policy_violation" if draw.random() < 0.1 else draw.choice(_EVENTS)
        yield (
            t_ms,
            f'{{"ts":{t_ms},"level":"info","event":"{event}","user":"u{draw.randrange(USERS)}","service":"shop",'
            f'"path":"/api/v1/orders/{draw.randrange(100_000)}","took_ms":{draw.randrange(900)},"status":200}}',
        )


def batches(count: int) -> Iterator[LogBatch]:
    """The same lines as the connector would put them on the topic."""
    entries: list[LogEntry] = []
    for number, (t_ms, text) in enumerate(lines(count), 1):
        entries.append(LogEntry(t_ms * 1_000_000, text))
        if number % BATCH_LINES == 0 or number == count:
            yield LogBatch("bench", 1, number, t_ms, t_ms, [LogStream(Raw(STREAM), entries)])
            entries = []
