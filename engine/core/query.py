"""What a query can be answered from: the windows that the running rules and the setting `rules.keep` hold.

A selector of a query is answered from a window whose matchers the selector's own imply, since then the window holds
every series that it wants: `http_requests_total` is a window for `http_requests_total{job="a"}`, not the reverse. The
window must also reach back far enough:

    event time   ----|=================================|------->
                 held from                          complete      newer samples may still be missing
                 (about watermark - reach)          (watermark - 1)

Nothing in here knows a query language; `engine.promql.query` is what runs PromQL on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.core import duration
from engine.core.expression import EvaluationError, Expression, ExpressionError, Selector, Vector, Window
from engine.core.gotemplate.values import TemplateError
from engine.core.group import NEVER, Group
from engine.core.labels import Labels, Matcher, MatcherSet
from engine.core.rules import AlertRule, Compile
from engine.core.series import NAME
from engine.core.view import Budget, WindowView
from engine.core.window import MetricWindow

_LITERALS = re.compile(r"[\w\-/: @]*(?:\|[\w\-/: @]*)*", re.ASCII)
"""A regular expression that is nothing but words with `|` between them."""
_LONGEST_MS = 10 * 365 * 86_400_000
"""A longer reach is that of a selector fixed to a time by `@`: whether that is held shows when it is looked at."""


@dataclass(frozen=True)
class Held:
    """A window of metrics and what it holds: series by matchers, times by the group's watermark."""

    group: Group
    key: str
    window: MetricWindow
    matches: MatcherSet

    @property
    def reach_ms(self) -> int:
        """How far back from the watermark it is kept."""
        return self.group.reach_ms(self.key)

    @property
    def complete_ms(self) -> int:
        """The newest time of which everything is here."""
        return self.group.watermark_ms - 1

    def held_from_ms(self) -> int:
        """The oldest time of which everything is still here."""
        return self.group.held_from_ms(self.key)


@dataclass(frozen=True)
class Reading:
    """Where the selectors of one query are read: `windows` by selector key, complete up to `complete_ms`.

    Without a selector nothing is read, and every time is complete.
    """

    windows: Mapping[str, Window]
    complete_ms: int | None
    budget: Budget


def held_windows(groups: Iterable[Group]) -> list[Held]:
    """Every window of metrics of these groups, of which something may have come already."""
    return [
        Held(group, selector.key, window, selector.matches)
        for group in groups
        if group.watermark_ms != NEVER
        for selector in group.selectors
        if isinstance(window := group.windows[selector.key], MetricWindow)
    ]


def read(
    groups: Iterable[Group], selectors: Sequence[Selector], start_ms: int | None = None, budget: int = 2**62
) -> Reading:
    """The windows from which a query is read that begins at `start_ms` (None: as late as may be).

    Of several the one that is furthest is taken, among those that hold all that is looked at; if none does, the one
    that reaches back furthest. Raises `EvaluationError` where there is none, or none that reaches back far enough for
    a single step.
    """
    held = held_windows(groups)
    if selectors and not held:
        raise EvaluationError("no data has arrived yet")
    chosen = {selector.key: (_choose(held, selector, start_ms), selector) for selector in selectors}
    shared = Budget(budget)
    return Reading(
        {key: WindowView(one.window, want.matches, one.held_from_ms, shared) for key, (one, want) in chosen.items()},
        min((one.complete_ms for one, _ in chosen.values()), default=None),
        shared,
    )


def instant_query(groups: Iterable[Group], expression: Expression, at_ms: int | None = None) -> tuple[int, Vector]:
    """The value of an expression at a time, and that time: never newer than what is complete, which is the default.

    Raises `EvaluationError`.
    """
    groups = list(groups)
    reading = read(groups, expression.selectors, at_ms)
    newest_ms = reading.complete_ms
    if newest_ms is None:
        newest_ms = max((group.watermark_ms - 1 for group in groups), default=NEVER) if at_ms is None else at_ms
        if newest_ms <= NEVER:
            raise EvaluationError("no data has arrived yet")
    asked_ms = newest_ms if at_ms is None else min(at_ms, newest_ms)
    return asked_ms, expression.evaluate(reading.windows, asked_ms)


def answer(groups: Iterable[Group], rule: AlertRule, text: str, at_ms: int) -> list[tuple[Labels, float]]:
    """What a query in a template of a rule finds at a time. Raises `TemplateError`."""
    try:
        expression = _compiled(rule.compile, text)
        vector = expression.evaluate(read(groups, expression.selectors, at_ms).windows, at_ms)
    except (ExpressionError, EvaluationError) as error:
        raise TemplateError(str(error)) from error
    return list(zip(vector.labels, vector.values.tolist(), strict=True))


@lru_cache(maxsize=10_000)  # the texts hold label values of alerts: many, and the same ones again at each evaluation
def _compiled(compile_expression: Compile, text: str) -> Expression:
    return compile_expression(text)


def find_series(groups: Iterable[Group], wanted: Sequence[MatcherSet], start_ms: int, end_ms: int) -> list[Labels]:
    """The label sets, sorted, of which a sample in [start, end] is held; of those that match one of `wanted`, if any.

    Windows that hold only a part of what is asked for are looked at, too: what they hold exists.
    """
    found: dict[tuple[tuple[str, str], ...], Labels] = {}
    for held in held_windows(groups):
        view = held.window.range(start_ms - 1, end_ms)
        for labels, some in zip(view.series.labels, (view.stop > view.first).tolist(), strict=True):
            if some and (not wanted or any(matches(labels) for matches in wanted)):
                found[tuple(sorted(labels.items()))] = labels
    return [found[key] for key in sorted(found)]


def implies(query: MatcherSet, window: MatcherSet) -> bool:
    """Whether every label set that the query wants is one that the window wants.

    False where it cannot be seen from the matchers, although it might be so: two different regular expressions are
    not compared.
    """
    return all(_is_implied(matcher, query) for matcher in window.matchers)


def _is_implied(wanted: Matcher, query: MatcherSet) -> bool:
    if wanted in query.matchers or (wanted.op == "=~" and wanted.value == ".*"):
        return True
    own = [matcher for matcher in query.matchers if matcher.name == wanted.name]
    holds = MatcherSet([wanted] if own else [])
    for matcher in own:
        values = _only_values(matcher)
        if values is not None and all(holds({wanted.name: value}) for value in values):
            return True
    asks_for_any = (wanted.op, wanted.value) in (("!=", ""), ("=~", ".+"))
    has_one = wanted.name == NAME or any(not MatcherSet([matcher])({}) for matcher in own)  # a series has a name
    return asks_for_any and has_one


def _only_values(matcher: Matcher) -> Sequence[str] | None:
    """The values that a matcher allows, if they can be listed."""
    if matcher.op == "=":
        return [matcher.value]
    if matcher.op == "=~" and _LITERALS.fullmatch(matcher.value):
        return matcher.value.split("|")
    return None


def _choose(held: Sequence[Held], selector: Selector, start_ms: int | None) -> Held:
    able = [one for one in held if implies(selector.matches, one.matches)]
    if not able:
        raise EvaluationError(f"no window holds {selector_text(selector)}; {_advice(selector)}")
    fixed = selector.reach_ms > _LONGEST_MS
    long_enough = [one for one in able if fixed or one.reach_ms >= selector.reach_ms]
    if not long_enough:
        longest = max(able, key=lambda one: one.reach_ms)
        raise EvaluationError(
            f"{selector_text(selector)} is kept for {duration.format_ms(longest.reach_ms)} and this query looks back "
            f"{duration.format_ms(selector.reach_ms)}; {_advice(selector)}"
        )
    first_ms = None if start_ms is None else start_ms - selector.reach_ms + 1
    covering = [one for one in long_enough if first_ms is None or one.held_from_ms() <= first_ms]
    return max(covering, key=_order) if covering else min(long_enough, key=Held.held_from_ms)


def _order(held: Held) -> tuple[int, int]:
    return held.complete_ms, held.reach_ms


def _advice(selector: Selector) -> str:
    span = duration.format_ms(selector.reach_ms if selector.reach_ms <= _LONGEST_MS else 3_600_000)
    return f"add {selector_text(selector)}[{span}] to the setting rules.keep, or a rule that reads it that far back"


def selector_text(selector: Selector) -> str:
    """A selector as PromQL writes it: `up{job="a"}`."""
    named = [m.value for m in selector.matches.matchers if m.name == NAME and m.op == "="]
    rest = [str(m) for m in selector.matches.matchers if not (named and m.name == NAME and m.op == "=")]
    name = named[0] if named else ""
    return name + (f"{{{','.join(rest)}}}" if rest else "")
