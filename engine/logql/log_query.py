"""Log queries without an aggregation: lines as the pipeline leaves them, for evidence and the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.core.labels import Labels, MatcherSet
from engine.core.messages import LogEntry
from engine.logql import tree as t
from engine.logql.compile import matcher_set
from engine.logql.line import Line, Stage
from engine.logql.parse import parse
from engine.logql.pipeline import compile_stage


@dataclass(frozen=True)
class LogQuery:
    """A compiled log query: ask `matches` for the streams it reads, then `run` for each of their lines."""

    text: str
    matches: MatcherSet
    stages: Sequence[Stage]

    def run(self, stream: Labels, entry: LogEntry) -> tuple[str, Labels] | None:
        """The line and its labels after all stages, or None if it is filtered out.

        A line that failed in a stage has the labels `__error__` and `__error_details__`, as in Loki.
        """
        line = Line(entry.line, stream, entry.metadata, entry.t_ns)
        for stage in self.stages:
            if not stage(line):
                return None
        return line.text, line.labels


def compile_log_query(text: str) -> LogQuery:
    """Compile a stream selector with its pipeline. Raises `ExpressionError`, also for a metric query."""
    tree = parse(text)
    if not isinstance(tree, t.LogQuery):
        raise t.Place(1, 1).refuse("a log query is wanted here, such as {app=`api`} |= `error`, not a metric query")
    for stage in tree.stages:
        if isinstance(stage, t.Unwrap):
            raise stage.place.refuse("unwrap takes a number for a range aggregation; a log query has none")
    return LogQuery(text, matcher_set(tree), [compile_stage(stage) for stage in tree.stages])
