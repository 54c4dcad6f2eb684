"""Instant queries over what the windows of the running rules hold.

A query may read what some rule reads: for each of its selectors there must be a window with the same matchers that is
kept at least as long as the query looks back. That is what investigations in runbooks ask.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.core.expression import EvaluationError, Expression, Vector, Window
from engine.core.group import NEVER, Group
from engine.core.step import Shard


def instant_query(shards: Iterable[Shard], expression: Expression) -> tuple[int, Vector]:
    """The newest time for which an answer is complete, and the answer. Raises `EvaluationError`."""
    groups = [group for shard in shards for group in shard.groups]
    windows: dict[str, Window] = {}
    at_ms: int | None = None
    for selector in expression.selectors:
        owner = _owner(groups, selector.key, selector.reach_ms)
        if owner is None:
            raise EvaluationError(
                f"no rule keeps {selector.key} for as long as this query looks back; add a rule that reads it, "
                "or let investigations ask a Prometheus (responder.query_url)"
            )
        windows[selector.key] = owner.windows[selector.key]
        newest_ms = owner.watermark_ms - 1
        at_ms = newest_ms if at_ms is None else min(at_ms, newest_ms)
    if at_ms is None:
        at_ms = max((group.watermark_ms - 1 for group in groups), default=0)
    if at_ms <= NEVER:
        raise EvaluationError("no data has arrived yet")
    return at_ms, expression.evaluate(windows, at_ms)


def _owner(groups: Iterable[Group], selector_key: str, reach_ms: int) -> Group | None:
    able = [
        group
        for group in groups
        if selector_key in group.windows and group.reach_ms(selector_key) >= reach_ms and group.watermark_ms != NEVER
    ]
    return max(able, key=lambda group: group.watermark_ms, default=None)
