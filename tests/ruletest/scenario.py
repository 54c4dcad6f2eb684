"""Scenarios for one alerting rule: series that take it through its states, and a test file that asks at every step.

Time goes through phases in which the condition should hold, hold for a moment only, not hold, and in which the data has
a gap or goes stale. Samples never stand on a boundary of a range at the time of an evaluation: Prometheus 2 counts a
sample on a range's left edge, Prometheus 3 does not.

    entity 0   no | holds ........... | no | holds | gap | holds ........ stale | no
    entity 1     no | holds ........... | no | holds | gap | holds ........ stale |
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as parser

from tests.ruletest.aims import Aims, Leaf, Motion, Shape, label_value, shape_of

EVALUATIONS = 60
GRID_S = 30
SPACINGS_S = (7, 13, 29, 43, 61, 73)  # no multiples of the grid but few: those are left out
LOOKBACK_S = 300


@dataclass(frozen=True)
class Pace:
    """How time goes in a scenario, in seconds."""

    every_s: int
    spacing_s: int
    for_s: float

    @property
    def long_s(self) -> float:
        """A phase long enough for the rule to fire."""
        return max(12 * self.every_s, self.for_s * 1.3 + 4 * self.every_s)


def pace_of(shape: Shape, for_s: float) -> Pace:
    """An interval that shows `for` and ranges in some steps, and samples close enough for the shortest range."""
    every_s = max(60, math.ceil(max((for_s + shape.reach_s) / 10, shape.clock_s / 6) / 60) * 60)
    shortest_s = min([leaf.range_s for leaf in shape.leaves.values() if leaf.range_s] or [LOOKBACK_S])
    spacing_s = max(one for one in SPACINGS_S if one <= max(shortest_s / 4, SPACINGS_S[0]))
    return Pace(every_s, spacing_s, for_s)


def phases(pace: Pace, delay_s: float) -> Iterator[tuple[str, float]]:
    """What happens one after the other, and until when."""
    short_s = max(2.0 * pace.every_s, pace.for_s / 2)
    until_s = 0.0
    for what, length_s in (
        ("no", pace.long_s / 3 + delay_s),
        ("holds", pace.long_s),
        ("no", pace.long_s / 3),
        ("holds", short_s),
        ("gap", short_s),
        ("holds", pace.long_s),
        ("stale", pace.long_s / 3),
        ("no", math.inf),
    ):
        until_s += length_s
        yield what, until_s


class Scenario:
    """The series of one rule. Seeds 0 and 1 follow the tree, later ones also chance.

    With odd seeds a label that one selector asks for is on the series of all, so that they can be matched.
    """

    def __init__(self, expression: str, for_s: float, seed: int) -> None:
        tree: Any = parser.parse(expression)
        self.shared = seed % 2 == 1
        self.shape = shape_of(tree)
        self.pace = pace_of(self.shape, for_s)
        self.motions: dict[str, Mapping[str, Motion]] = {}
        for what in ("no", "holds"):
            aims = Aims(self.shape, random.Random(f"{expression}{seed}"))
            aims.satisfy(tree, what == "holds")
            if seed > 1 and what == "holds":
                aims.by_chance()
            self.motions[what] = aims.motions

    @property
    def times_s(self) -> list[int]:
        """When rules are evaluated."""
        return [step * self.pace.every_s for step in range(EVALUATIONS)]

    def series(self) -> Iterator[dict[str, str]]:
        """The input series, as a test file has them."""
        for leaf in self.shape.leaves.values():
            for entity in range(self.shape.entities):
                for bound in sorted(leaf.bounds | {math.inf}) if leaf.bounds else [None]:
                    points = self._points(leaf, entity, bound)
                    yield {"series": self._name(leaf, entity, bound), "values": " ".join(_runs(points))}

    def _name(self, leaf: Leaf, entity: int, bound: float | None) -> str:
        labels = {name: f"{name}{entity}" for name in ("instance", *sorted(self.shape.labels)) if name != "le"}
        everything = [matcher for one in self.shape.leaves.values() for matcher in one.matchers]
        own = {matcher.name for matcher in leaf.matchers}
        for name in sorted({matcher.name for matcher in everything} if self.shared else own):
            wanted = [matcher for matcher in (leaf.matchers if name in own else everything) if matcher.name == name]
            labels[name] = label_value(name, wanted, labels.get(name, ""))
        if bound is not None:
            labels["le"] = "+Inf" if math.isinf(bound) else f"{bound:g}"
        name = leaf.name or labels.pop("__name__", "")
        pairs = (f"{label}={json.dumps(text)}" for label, text in sorted(labels.items()) if text)
        return f"{name}{{{', '.join(pairs)}}}"

    def _points(self, leaf: Leaf, entity: int, bound: float | None) -> Iterator[str]:
        course = phases(self.pace, entity % 3 * 2.0 * self.pace.every_s)
        what, until_s = next(course)
        began_s, counted, marked = 0.0, 0.0, False
        end_s = (EVALUATIONS - 1) * self.pace.every_s
        for at_s in range(0, end_s + 1, self.pace.spacing_s):
            if at_s >= until_s:
                began_s = until_s
                what, until_s = next(course)
            motion = self.motions["holds" if what in ("holds", "gap") else "no"].get(leaf.key, Motion(1.0))
            counted += motion.per_s * self.pace.spacing_s if _counts(motion, bound) else 0.0
            if at_s % GRID_S == 0 or what == "gap" or motion.absent or (what == "stale" and marked):
                yield "_"
            elif what == "stale":
                marked = True
                yield "stale"
            else:
                yield _number(counted if motion.level is None else _level(motion, at_s, at_s - began_s))


def _counts(motion: Motion, bound: float | None) -> bool:
    return motion.level is None and (bound is None or motion.observed <= bound)


def _level(motion: Motion, at_s: float, phase_s: float) -> float:
    up = motion.toggles_s and int(phase_s / motion.toggles_s) % 2
    return (motion.level or 0.0) + motion.now * at_s + motion.per_s * phase_s + up


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.12f}".rstrip("0")


def _runs(points: Iterator[str]) -> Iterator[str]:
    """Equal neighbours written as one."""
    before, count = next(points), 1
    for point in (*points, ""):
        if point == before and point != "stale":
            count += 1
            continue
        yield before if count == 1 else f"{before}x{count if before == '_' else count - 1}"
        before, count = point, 1
