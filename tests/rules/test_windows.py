"""Without a Prometheus, a runbook's PromQL is answered from the windows that the shipped rules keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import promql
from engine.core.query import implies
from engine.loading import load
from engine.response.steps import Investigate, PromqlSource, Step, Verify

RULES = Path(__file__).parents[2] / "rules"
LOADED = load([RULES.parent / "examples" / "aureus" / "rules", RULES])
KEPT = [selector for group in LOADED.groups for selector in group.selectors if selector.kind == "metrics"]


def asked(step: Step) -> Investigate | None:
    if isinstance(step.body, Verify):
        return step.body.fresh
    return step.body if isinstance(step.body, Investigate) else None


def queries() -> Iterator[tuple[str, str, str]]:
    """Runbook, step and query, for a service."""
    for runbook in LOADED.runbooks:
        for step in runbook.steps:
            question = asked(step)
            if question is not None and isinstance(question.source, PromqlSource):
                yield runbook.name, step.name, question.source.query.text.replace("$service", '"bridge"')


@pytest.mark.parametrize(
    ("runbook", "step", "query"), list(queries()), ids=lambda text: text if text.isidentifier() else ""
)
def test_some_rule_keeps_what_is_asked_for_as_far_back_as_it_is(runbook: str, step: str, query: str) -> None:
    for wanted in promql.compile(query).selectors:
        kept = [one for one in KEPT if implies(wanted.matches, one.matches) and one.reach_ms >= wanted.reach_ms]
        assert kept, f"{runbook}, {step}: no rule keeps {wanted.matches}"
