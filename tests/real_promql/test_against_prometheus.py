"""Random queries on random data: Sentinel and a real Prometheus must answer the same, or both refuse.

`python -m tests.real_promql.hunt` does this for more seeds, and shrinks what differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_promql import prometheus
from tests.real_promql.comparison import Duel

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

DATA_SEED = 1
QUERIES = 1_500
MISTAKEN = 700


@pytest.fixture(
    scope="module",
    params=[("prometheus", False), ("prometheus-3", False), ("prometheus-3", True)],
    ids=["prometheus", "prometheus-3", "prometheus-3-names-go-late"],
)
def duel(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duel]:
    part, delayed_names = request.param
    with Duel.of(part, tmp_path_factory.mktemp("prometheus"), DATA_SEED, delayed_names) as found:
        yield found


def test_random_queries_are_answered_as_by_prometheus(duel: Duel) -> None:
    answered = 0
    for seed in range(QUERIES):
        text, times = duel.draw(seed, mistaken=False)
        assert not duel.difference(text, times), f"seed {seed} at {times}: {text}"
        answered += bool(prometheus.ask(duel.client, text, times).series)
    assert answered > QUERIES / 2  # else little would have been compared


def test_queries_with_a_mistake_are_refused_where_prometheus_refuses_them(duel: Duel) -> None:
    if not duel.newest:
        pytest.skip("the grammar is that of Prometheus 3")
    refused = 0
    for seed in range(MISTAKEN):
        text, times = duel.draw(seed, mistaken=True)
        assert not duel.difference(text, times), f"seed {seed} at {times}: {text}"
        refused += prometheus.ask(duel.client, text, times).kind == "error"
    assert MISTAKEN / 4 < refused < MISTAKEN
