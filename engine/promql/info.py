"""`info(vector, {labels})`: the data labels of info metrics, such as `target_info`, joined to the series they describe.

Reference: Prometheus `promql/info.go`. Info series are found by the labels that identify a target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.core.expression import EvaluationError
from engine.core.labels import Labels, Matcher, MatcherSet
from engine.core.series import NAME, SeriesSet
from engine.core.window import InstantView
from engine.promql.evaluate import Shift, window_of
from engine.vector import format as fmt
from engine.vector import names
from engine.vector.values import LOOKBACK_MS, Context, InstantVector, Node, from_rows, unique, vector_value

TARGET_INFO = Matcher(NAME, "=", "target_info")
_IDENTIFYING = ("instance", "job")

Target = tuple[str, str]
"""The values of the identifying labels."""


@dataclass(frozen=True)
class Info:
    """The operand with labels of the info series that `selector` reads, limited to those that `data` names.

    `key` is that of the window of the info series, `names` are the matchers of their metric name and `data` the others.
    `shift` is that of the operand's first selector: info series are not looked at later than that looks.
    """

    operand: Node
    key: str
    shift: Shift
    names: MatcherSet
    data: tuple[Matcher, ...]

    def evaluate(self, context: Context) -> InstantVector:
        """The operand's elements; those that no info series describes are left out if `data` asks for a label."""
        base = vector_value(self.operand.evaluate(context))
        rows = np.flatnonzero(base.present).tolist()
        bases = [base.series.labels[row] for row in rows]
        known = self._described(context, bases)
        kept: list[int] = []
        labels: list[Labels] = []
        for row, own in zip(rows, bases, strict=True):
            described = own if self._is_info(own) else self._with_labels(own, known)
            if described is not None:
                kept.append(row)
                labels.append(described)
        series = names.kept(SeriesSet(labels), base.series)
        return unique(from_rows(series, base.values[np.array(kept, dtype=np.intp)]))

    def _is_info(self, labels: Labels) -> bool:
        return self.names({NAME: labels.get(NAME, "")})

    def _described(self, context: Context, bases: Sequence[Labels]) -> Mapping[Target, list[Labels]]:
        """The newest info series of each metric, by target. Raises `EvaluationError` if two are equally new."""
        wanted = {name: {b[name] for b in bases if name in b and not self._is_info(b)} for name in _IDENTIFYING}
        if not any(wanted.values()):
            return {}
        view = self._view(context)
        newest: dict[tuple[str, Target], tuple[int, Labels]] = {}
        for row in np.flatnonzero(view.present).tolist():
            labels, at_ms = view.series.labels[row], int(view.times[row])
            if any(values and labels.get(name, "") not in values for name, values in wanted.items()):
                continue
            key = (labels.get(NAME, ""), _target(labels))
            known_ms, known = newest.get(key, (at_ms - 1, labels))
            if known_ms == at_ms:
                both = f"existing {fmt.labels(known)} @ {known_ms}, new {fmt.labels(labels)} @ {at_ms}"
                raise EvaluationError(f"found duplicate series for info metric: {both}")
            if known_ms < at_ms:
                newest[key] = (at_ms, labels)
        found: dict[Target, list[Labels]] = {}
        for (_, target), (_, labels) in newest.items():
            found.setdefault(target, []).append(labels)
        return found

    def _view(self, context: Context) -> InstantView:
        """The info series now, but only such samples as the operand's selector might read during the whole query."""
        first, last = (self.shift.resolve(context.at(t)) for t in (context.start_ms, context.end_ms))
        seen_ms = context.visible_ms(min(context.at_ms, last))
        since_ms = max(context.at_ms, first) - LOOKBACK_MS
        return window_of(context, self.key).instant(seen_ms, seen_ms - since_ms)

    def _with_labels(self, own: Labels, known: Mapping[Target, Iterable[Labels]]) -> Labels | None:
        wanted = {matcher.name for matcher in self.data}
        infos = list(known.get(_target(own), ()))
        if not infos and not all(MatcherSet([matcher])({}) for matcher in self.data):
            return None
        added: Labels = {}
        for labels in infos:
            for name, value in labels.items():
                if name == NAME or (wanted and name not in wanted) or name in own:
                    continue
                if added.setdefault(name, value) != value:
                    raise EvaluationError(f"conflicting label: {name}")
        return {**added, **own}


def _target(labels: Labels) -> Target:
    instance, job = (labels.get(name, "") for name in _IDENTIFYING)
    return instance, job
