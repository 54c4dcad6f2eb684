"""Random expressions on random data: Sentinel and a real Prometheus must give the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from engine.core.expression import EvaluationError, ExpressionError, Selector, Window
from engine.core.labels import encode
from engine.promql import compile as compile_promql
from engine.vector.values import Context, InstantVector, sorted_vector
from tests.parts import require, running_prometheus
from tests.real_promql import prometheus
from tests.real_promql.expressions import Generator
from tests.real_promql.prometheus import Answer
from tests.real_promql.series import START_MS, Series, generate

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

DATA_SEED = 1
EXPRESSIONS = 1_000
AT_MS = tuple(START_MS + minutes * 60_000 + 25_000 for minutes in (7, 16, 29))
LATELY_STRICT = "multiple matches for labels"
"""We refuse these as the newest Prometheus does; the older ones let it pass where a comparison drops all but one."""
TOLERANCE, NOISE = 1e-9, 1e-7


@dataclass
class Sentinel:
    """The same data in our windows, filled when a selector first asks for them."""

    series: list[Series]
    windows: dict[str, Window] = field(default_factory=dict)

    def evaluate(self, text: str, at_ms: int, *, delayed_names: bool) -> tuple[Answer, str]:
        """As `prometheus.query`."""
        try:
            expression = compile_promql(text, any_type=True)
        except ExpressionError as error:
            return None, error.message
        for selector in expression.selectors:
            if selector.key not in self.windows:
                self.windows[selector.key] = self._filled(selector)
        context = Context(self.windows, at_ms, at_ms, at_ms, delayed_names=delayed_names)
        try:
            value = expression.evaluate_in(context)
        except EvaluationError as error:
            return None, str(error)
        if isinstance(value, float):
            return value, ""
        assert isinstance(value, InstantVector)
        vector = sorted_vector(value)
        return dict(zip(map(encode, vector.labels), vector.values.tolist(), strict=True)), ""

    def _filled(self, selector: Selector) -> Window:
        window = selector.make_window()
        for labels, samples in self.series:
            if selector.matches(labels) and samples:
                times, values = np.array([t for t, _ in samples]), np.array([v for _, v in samples])
                window.append([encode(labels)] * len(samples), times, values)
        return window


def same(ours: Answer, theirs: Answer) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(close(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, float) and isinstance(theirs, float):
        return close(ours, theirs)
    return ours is None and theirs is None


def close(a: float, b: float) -> bool:
    """Equal but for the order in which floats were added."""
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or math.isinf(b):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= max(NOISE, TOLERANCE * max(abs(a), abs(b)))


@pytest.fixture(scope="module")
def major() -> int:
    return prometheus.version(require("prometheus") / "prometheus")[0]


@pytest.fixture(scope="module", params=[False, True], ids=["names-go-at-once", "names-go-late"])
def rival(request: Any, major: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, bool]]:
    """A Prometheus that holds the data, and whether its metric names go late."""
    if request.param and major < 3:
        pytest.skip(f"Prometheus {major} does not have delayed name removal")
    flags = prometheus.flags(newest=major >= 3, delayed_names=request.param)
    with (
        running_prometheus(tmp_path_factory.mktemp("prometheus"), prometheus.CONFIG, flags) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        prometheus.write(client, generate(DATA_SEED))
        yield client, request.param


def test_random_expressions_give_what_prometheus_gives(rival: tuple[httpx.Client, bool], major: int) -> None:
    client, delayed_names = rival
    sentinel = Sentinel(generate(DATA_SEED))
    empty = 0
    for seed in range(EXPRESSIONS):
        text = Generator(seed, newest=major >= 3, delayed_names=delayed_names).expression()
        at_ms = AT_MS[seed % len(AT_MS)]
        theirs, their_error = prometheus.query(client, text, at_ms)
        ours, our_error = sentinel.evaluate(text, at_ms, delayed_names=delayed_names)
        if our_error.startswith(LATELY_STRICT) and theirs is not None:
            continue
        assert same(ours, theirs), (
            f"seed {seed} at {at_ms}: {text}\n  Sentinel:   {our_error or ours}\n  Prometheus: {their_error or theirs}"
        )
        empty += not theirs
    assert empty < EXPRESSIONS / 2  # else little would have been compared
