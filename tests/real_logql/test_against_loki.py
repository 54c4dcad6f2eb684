"""Random queries over random lines: Sentinel and a real Loki must give the same.

Loki does not split queries into shards here: split, its `avg_over_time` of unwrapped values counts lines that have no
value.

`AUREUS_LOGQL_QUERIES` is how many, `AUREUS_LOGQL_SEED` where their seeds begin.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx
import msgspec
import numpy as np
import pytest

from engine import logql
from engine.core import labels as label_sets
from engine.core.expression import EvaluationError, ExpressionError, Selector, Window
from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.logql.window import LogWindow
from tests.parts import running_loki
from tests.real_logql.lines import SPAN_S, generate
from tests.real_logql.queries import Generator

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

QUERIES = int(os.environ.get("AUREUS_LOGQL_QUERIES", "200"))
FIRST_SEED = int(os.environ.get("AUREUS_LOGQL_SEED", "0"))
DATA_SEED = 3
AT_S = (240, 420, SPAN_S - 7)
SAME_LABELS = "vector cannot contain metrics with the same labelset"
TOLERANCE = 1e-9
Streams = Sequence[tuple[Labels, list[LogEntry]]]
Answer = list[tuple[bytes, float]] | None
"""The elements of a vector in order of their labels, or None for an error.

Labels with an empty value, which Loki's answers do not have, are left out, so two elements may look the same.
"""


@dataclass
class Sentinel:
    """The lines in our windows, filled when a selector first asks for them."""

    streams: Streams
    windows: dict[str, Window] = field(default_factory=dict)

    def evaluate(self, text: str, at_ms: int) -> tuple[Answer, str]:
        """The value of a query, or why there is none."""
        try:
            expression = logql.compile(text, strict=True)
        except ExpressionError as error:
            return None, error.message
        for selector in expression.selectors:
            if selector.key not in self.windows:
                self.windows[selector.key] = self._filled(selector)
        try:
            vector = expression.evaluate(self.windows, at_ms)
        except EvaluationError as error:
            return None, str(error)
        return sorted(zip(map(label_sets.encode, vector.labels), vector.values.tolist(), strict=True)), ""

    def _filled(self, selector: Selector) -> Window:
        window = LogWindow()
        assert selector.extract is not None
        for labels, entries in self.streams:
            for entry in entries if selector.matches(labels) else ():
                found = selector.extract(labels, entry)
                if found is not None:
                    times = np.array([entry.t_ns], np.int64)
                    window.append_lines([found[0]], times, np.array([found[1]]), [entry.line], labels)
        return window


@dataclass
class Rival:
    """A Loki that holds the lines."""

    client: httpx.Client
    streams: Streams
    start_ms: int

    def push(self) -> None:
        """Put every line into it."""
        for labels, entries in self.streams:
            values = [[str(entry.t_ns), entry.line, entry.metadata] for entry in entries]
            body = msgspec.json.encode({"streams": [{"stream": labels, "values": values}]})
            answer = self.client.post("/loki/api/v1/push", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 204, answer.text

    def query(self, text: str, at_ms: int) -> tuple[Answer, str]:
        """What Loki answers, or its error."""
        answer = self.client.post("/loki/api/v1/query", data={"query": text, "time": str(at_ms * 1_000_000)})
        if not answer.is_success:
            return None, answer.text
        result = answer.json()["data"]["result"]
        return sorted((label_sets.encode(one["metric"]), float(one["value"][1])) for one in result), ""


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rival]:
    start_ms = int(time.time()) * 1_000 - SPAN_S * 1_000 - 60_000  # Loki takes what is of today
    with (
        running_loki(tmp_path_factory.mktemp("loki")) as loki,
        httpx.Client(base_url=loki.url, timeout=30) as client,
    ):
        found = Rival(client, generate(DATA_SEED, start_ms), start_ms)
        found.push()
        yield found


def same(text: str, ours: Answer, theirs: Answer) -> bool:
    """Whether two answers are one. Which of equal values `topk` keeps is anybody's choice."""
    if ours is None or theirs is None:
        return ours is theirs
    if len(ours) != len(theirs):
        return False
    if "topk" in text or "bottomk" in text:
        return all(map(close, sorted(value for _, value in ours), sorted(value for _, value in theirs)))
    return all(key == other and close(a, b) for (key, a), (other, b) in zip(ours, theirs, strict=True))


def close(a: float, b: float) -> bool:
    """Equal but for the order in which floats were added."""
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or math.isinf(b):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))


def test_random_queries_give_what_loki_gives(rival: Rival) -> None:
    sentinel = Sentinel(rival.streams)
    told = {"values": 0, "nothing": 0, "an error": 0}
    different = []
    for seed in range(FIRST_SEED, FIRST_SEED + QUERIES):
        text = Generator(seed).query()
        at_ms = rival.start_ms + AT_S[seed % len(AT_S)] * 1_000
        theirs, their_error = rival.query(text, at_ms)
        ours, our_error = sentinel.evaluate(text, at_ms)
        told["an error" if theirs is None else "values" if theirs else "nothing"] += 1
        if our_error == SAME_LABELS and "label_replace" in text:
            continue  # Loki goes on with two elements that look the same; we refuse them, as Prometheus does
        if not same(text, ours, theirs):
            different.append(
                f"seed {seed}: {text}\n  Sentinel: {our_error or ours}\n  Loki:     {their_error or theirs}"
            )
    print(f"{QUERIES} queries: Loki gave {told}")
    assert not different, f"{len(different)} of {QUERIES} differ:\n" + "\n".join(different)
    assert told["values"] > QUERIES * 0.4  # else little would have been compared
