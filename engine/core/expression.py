"""What a rule language gives the core: compiled expressions that say what they read and evaluate on windows.

A rule language (PromQL, LogQL, ...) compiles the text of an expression into an `Expression`. The core asks it which
`Selector`s it reads, keeps one `Window` for each, fills them as events arrive, and calls `evaluate` at a point in
event time. It never looks inside an expression, so a new language is a new folder and nothing else.

Windows hold *everything that has arrived*, also what is newer than the time asked about: `evaluate` looks only at
what is not later than `at_ms`. The core calls it once the watermark has passed `at_ms`, so the answer does not depend
on how events were batched or ordered on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.core.labels import Labels, MatcherSet
from engine.core.messages import EvidenceLine, LogEntry

Times = NDArray[np.int64]
Values = NDArray[np.float64]
Presence = Literal["live", "vanished", "absent"]


class ExpressionError(Exception):
    """An expression is malformed, or uses something that is not supported; refused at load.

    `line` and `column` (from 1) are positions inside the expression's own text.
    """

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class EvaluationError(Exception):
    """An expression could not be evaluated on this data, e.g. many-to-many matching. The rule is counted as failed."""


@dataclass(frozen=True, slots=True)
class Vector:
    """An instant vector: `labels[i]` has the value `values[i]`. A scalar is one element without labels.

    `labels` hold `__name__` where the language keeps it. Order is the language's own (sorted by label set unless the
    expression sorts).
    """

    labels: Sequence[Labels]
    values: Values
    is_scalar: bool = False


class Window(Protocol):
    """The recent samples of every series that a selector wants, in columns."""

    def append(self, series: Sequence[bytes], t_ms: Times, values: Values) -> None:
        """Add samples: `series[i]` (canonical label bytes) had `values[i]` at `t_ms[i]`, in any order.

        A second sample of one series at one time is ignored by a metric window (first wins) and counts by a log window.
        """

    def evict(self, before_ms: int) -> None:
        """Forget what is older than `before_ms`."""

    def presence(self, at_ms: int, labels: Labels) -> Presence:
        """Whether there is data at `at_ms` in series that agree with `labels` on every label name both have.

        "live": some of them still get samples; "vanished": none does any more; "absent": no such series is held. A
        window of log lines is always "live": that nothing was logged is an answer.
        """

    def __len__(self) -> int:
        """How many samples are held."""


@runtime_checkable
class LogWindow(Window, Protocol):
    """A window that also keeps the last raw lines, as evidence."""

    def append_lines(
        self, series: Sequence[bytes], t_ns: Times, values: Values, lines: Sequence[str], stream: Labels
    ) -> int:
        """Add the lines of one stream that passed the pipeline; all sequences have one length.

        Returns how many the window has no room for.
        """


@dataclass(frozen=True, slots=True)
class MatchedLines:
    """Lines of a batch that passed a pipeline, in columns: line number `rows[i]` (ascending) counts for `series[i]`."""

    rows: Sequence[int]
    series: Sequence[bytes]
    values: Sequence[float]


LineMatcher = Callable[[Labels, Sequence[LogEntry]], Sequence[tuple[int, MatchedLines]]]
"""(stream labels, its lines) -> what passed each of several pipelines (by number), those without any line left out."""
Extract = Callable[[Labels, LogEntry], tuple[bytes, float] | None]


@dataclass(frozen=True)
class Selector:
    """What an expression reads from the stream.

    `key` is canonical text: two selectors with one key share a window. `reach_ms` is how far back from the evaluation
    time it looks (range, lookback and offset together), which is how long samples are kept; `range_ms` is its range
    alone (0 for an instant selector), which is how long a repair needs before the expression can show it.
    `make_window` creates its empty window.

    For logs, `extract(stream labels, entry)` runs the pipeline on one line of a stream that `matches`: None if the
    line is filtered out, else the canonical label bytes of the result series and its value (1.0 where lines are
    counted). The raw line is then kept as evidence by the window (`LogWindow.append_lines`). `join` makes one matcher
    of the `extract` of several selectors, for speed: it must find what each of them finds alone.
    """

    kind: Literal["metrics", "logs"]
    key: str
    matches: MatcherSet
    reach_ms: int
    make_window: Callable[[], Window]
    extract: Extract | None = None
    range_ms: int = 0
    join: Callable[[Sequence[Extract]], LineMatcher] | None = None


class Expression(Protocol):
    """A compiled expression."""

    @property
    def text(self) -> str:
        """The expression as it was written."""

    @property
    def selectors(self) -> Sequence[Selector]:
        """What it reads, each once."""

    def evaluate(self, windows: Mapping[str, Window], at_ms: int) -> Vector:
        """Its value at a point in event time; `windows` by selector key. Raises `EvaluationError`."""

    def evidence(self, windows: Mapping[str, Window], at_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        """The last lines that counted towards the result series with these labels (empty for metrics)."""


@runtime_checkable
class Ahead(Protocol):
    """An expression that is worked out quicker for several times together than for one after the other."""

    def ahead(self, windows: Mapping[str, Window], times: Sequence[int]) -> Callable[[int], Vector]:
        """`evaluate` for each of these times, to be asked in their order while the windows stay as they are."""


class Language(Protocol):
    """A rule language: a package under `engine` that has this function `compile`."""

    def compile(self, text: str) -> Expression:
        """Compile one expression. Raises `ExpressionError`."""
