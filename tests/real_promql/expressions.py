"""Seeded random PromQL expressions, nearly all well typed, in whatever way PromQL lets them be written.

For Prometheus 2, evaluation times are 25 s past a minute and ranges and offsets are whole minutes, so that no step of a
subquery falls on the edge of its range (see `series`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.real_promql.series import START_MS
from tests.real_promql.spelling import Spelling

LABELS = ("job", "instance", "zone", "le", "method", "__name__")
MATCHED = ("job", "instance", "zone", "method")
VALUES = ("a", "b", "0", "1", "x", "y", "Ä", "GET", "get", "a b", "")
COUNTERS = ("c_total", "d_total", "lat_bucket", "lat_count", "dense_total")
GAUGES = ("g", "h", "per_job", "one", "odd", "ns:rec", "dense_total")
MINUTES = (1, 2, 5, 11, 29)
STEPS = ("", "37s3ms", "13s7ms")
NEW_STEPS = ("", "37s3ms", "15s", "1m", "30", "20s")
OVER_TIME = ("avg", "count", "last", "max", "min", "present", "stddev", "stdvar", "sum")
OF_RANGE = ("changes", "delta", "deriv", "idelta", "resets")
OF_COUNTER = ("rate", "increase", "irate")
OF_VALUE = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cosh", "deg", "exp", "floor", "ln", "log10",
    "log2", "rad", "sgn", "sinh", "sqrt", "tanh", "timestamp", "sort", "sort_desc",
)  # fmt: skip
OF_DATE = ("day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year")
AGGREGATIONS = ("stddev", "stdvar", "avg", "count", "group", "max", "min", "sum")
ARITHMETIC = ("+", "-", "*", "/", "^", "atan2")
"""A remainder (`%`) is only taken of what is exact: else it tells noise."""
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
SETS = ("and", "or", "unless")
TEMPLATES = ("$1", "x-$1-$2", "${1}a", "", "$$1", "$x", "$1$2", "${x}b", "a$", "$1a", "Ä")
PATTERNS = ("(.*)", "(.)(.*)", "a|x", "(?P<x>[a0]).*", "", "(?i)GET", ".", "(a)?(.*)", "[^a]*", "(?s).")


class Generator:
    """Draws expressions; with `newest`, also of what came with Prometheus 3.

    Left out is what a version gets wrong. Prometheus 2 keeps the name in `atan2` with a scalar, has no spread for a
    single NaN, loses `predict_linear` at a fixed time, and near zero, where a subquery may be, extrapolates counters
    differently. Prometheus 3.5 has no share of a histogram above 0; in `info()` it looks at labels that an inner one
    added and finds nothing where a subquery stands at another time; and it may mix up the marks of names that go late
    (`delayed_names`) where groups are formed by name. Values of which only noise would be compared are kept out, too.
    """

    def __init__(self, seed: int, *, newest: bool, delayed_names: bool = False) -> None:
        self.rng = Random(seed)
        self.spell = Spelling(self.rng, newest=newest)
        self.newest = newest
        self.delayed_names = delayed_names
        self.arithmetic = ARITHMETIC if newest else ARITHMETIC[:-1]
        self.aggregations = AGGREGATIONS if newest else AGGREGATIONS[2:]
        self.by_name = () if delayed_names else (" by (__name__, job)",)
        self.in_subquery = False

    def expression(self, depth: int = 4) -> str:
        """Mostly a vector, sometimes a scalar, a chain of operators without parentheses, or something in order."""
        roll = self.rng.random()
        if roll < 0.1:
            return self.scalar(depth)
        if roll < 0.2:
            return self._chain(depth)
        return self._ordered() if roll < 0.25 else self.vector(depth)

    def _ordered(self) -> str:
        operand = self.selector()
        ranked = self._pick(["topk", "bottomk"])
        kinds = [
            f"sort({operand})",
            f"sort_desc({operand})",
            f"{ranked}{self._grouping()} ({self._pick('1239')}, {operand})",
        ]
        if self.newest:
            # Where a label is missing, Prometheus's order is no order.
            kinds += [f'sort_by_label(odd{self._shift()}, "method")', f'sort_by_label_desc(g{self._shift()}, "job")']
        return self._pick(kinds)

    def vector(self, depth: int) -> str:
        """An instant vector whose tree has at most so many levels."""
        if depth <= 1:
            return self.selector()
        kinds: list[Callable[[int], str]] = [
            self._aggregation, self._aggregation, self._with_scalar, self._with_vector, self._with_vector,
            self._of_range, self._of_range, self._of_value, self._of_labels, self._set, self._other, self._choice,
        ]  # fmt: skip
        return self.rng.choice([*kinds, self._new] if self.newest else kinds)(depth - 1)

    def scalar(self, depth: int) -> str:
        """A scalar."""
        roll = self.rng.random()
        if depth <= 1 or roll < 0.5:
            return self.spell.number() if roll < 0.9 else self._pick(["time()", "pi()", "(1)", "-(2)", "- -1"])
        if roll < 0.7:
            return f"scalar({self.vector(depth - 1)})"
        if roll < 0.8:
            powers = [f"-{self.scalar(1)} ^ {self.scalar(1)}", f"{self.scalar(1)} ^ {self.scalar(1)} ^ 2"]
            return f"({self._pick(powers)})"
        operator = self._pick([*self.arithmetic, *(f"{c} bool" for c in COMPARISONS)])
        return f"({self.scalar(depth - 1)} {operator} {self.scalar(depth - 1)})"

    def selector(self) -> str:
        """A metric, maybe with matchers, an offset, or at a fixed time."""
        return f"{self._metric((*GAUGES, *COUNTERS))}{self._shift()}"

    def range(self, depth: int, names: Sequence[str] = GAUGES) -> str:
        """A range vector: of a metric, or a subquery."""
        minutes = self.rng.choice(MINUTES)
        if depth <= 1 or self.rng.random() < 0.6:
            return f"{self._metric(names)}[{self.spell.duration(minutes)}]{self._shift()}"
        outside, self.in_subquery = self.in_subquery, True
        operand = self.vector(depth - 1)
        self.in_subquery = outside
        step = self._pick(NEW_STEPS if self.newest else STEPS)
        return f"({operand})[{self.spell.duration(max(minutes, 2))}:{step}]{self._shift()}"

    def _pick(self, what: Sequence[str]) -> str:
        return self.rng.choice(what)

    def _metric(self, names: Sequence[str]) -> str:
        name, roll = self._pick(names), self.rng.random()
        if roll < 0.06:
            return f'{{__name__=~"{name}|{self._pick(names)}"}}'
        if roll > 0.3:
            return name
        if self.newest and roll < 0.1:
            return self._pick(['{"m.ü"}', '{"m.ü", "a.b"="1"}', '{"m.ü", zone=~"x|"}', '{\'m.ü\', "a.b"!=""}'])
        matchers = [
            self.spell.matcher(self._pick(MATCHED), self._pick(VALUES)) for _ in range(self.rng.randrange(1, 3))
        ]
        comma = "," if self.spell.maybe(0.1) else ""
        if roll < 0.16:
            named = [f'__name__="{name}"', f'"{name}"'][: 1 + self.newest]
            matchers.insert(0, self._pick(named))
            name = ""
        return f"{name}{{{', '.join(matchers)}{comma}}}"

    def _shift(self) -> str:
        roll = self.rng.random()
        minutes = self.rng.choice((1, 3))
        offset = f" {self.spell.word('offset')} {self._pick(['', '', '-'])}{self.spell.duration(minutes)}"
        if roll < 0.15:
            return offset
        if roll < 0.25:
            at_s = START_MS // 1000 + 60 * self.rng.randrange(5, 25) + 35
            at = self._pick([f" @ {at_s}", f" @ {at_s}.000", " @ start()", " @ end()", f" @{at_s / 1e3:.6f}e3"])
            return self._pick([at, at + offset, offset + at])
        return ""

    def _labels(self) -> str:
        utf8 = ('"a.b"',) if self.newest else ()
        return self.spell.labels((*(LABELS[:-1] if self.delayed_names else LABELS), *utf8), self.rng.randrange(3))

    def _grouping(self) -> str:
        by, without = self.spell.word("by"), self.spell.word("without")
        return self._pick(["", "", f" {by} {self._labels()}", f" {without} {self._labels()}", *self.by_name])

    def _aggregate(self, operator: str, arguments: str) -> str:
        grouping = self._grouping()
        if self.spell.maybe(0.2):
            return f"{self.spell.word(operator)} ({arguments}){grouping}"
        return f"{self.spell.word(operator)}{grouping} ({arguments})"

    def _operator(self) -> str:
        return self._pick([*self.arithmetic, *self.arithmetic, *COMPARISONS, *(f"{c} bool" for c in COMPARISONS)])

    def _matching(self) -> str:
        word = self.spell.word(self._pick(["on", "ignoring"]))
        return self._pick(["", f"{word} {self._labels()}", "on (job)", "on (job, zone)"])

    def _chain(self, depth: int) -> str:
        """Operators side by side, whose precedence counts; the types may not fit, which is then refused."""
        parts = [self._operand(depth)]
        for _ in range(self.rng.randrange(2, 4)):
            operator = self._pick([*self.arithmetic, *COMPARISONS, *SETS, *(f"{c} bool" for c in COMPARISONS)])
            parts += [operator, self.spell.blank(), self._operand(depth)]
        return " ".join(parts)

    def _operand(self, depth: int) -> str:
        sign = self._pick(["", "", "", "-", "+", "- -"])
        return sign + (self.scalar(1) if self.spell.maybe(0.5) else self.vector(max(1, depth - 2)))

    def _aggregation(self, depth: int) -> str:
        return self._aggregate(self._pick(self.aggregations), self.vector(depth))

    def _choice(self, depth: int) -> str:
        operand, roll = self.vector(depth), self.rng.randrange(3)
        if roll == 0:
            return self._aggregate("quantile", f"{self.scalar(1)}, {operand}")
        if roll == 1:
            name = self._pick(["v", "job", "zone"])
            return self._aggregate("count_values", f'"{name}", round(clamp({operand}, -1e6, 1e6), 0.25)')
        # Of equal values either may be chosen, so only how many are chosen is asked for.
        chosen = self._aggregate(
            self._pick(["topk", "bottomk"]), f"{self._pick(['0', '1', '2', '9', '-1'])}, {operand}"
        )
        return f"count({chosen})"

    def _with_scalar(self, depth: int) -> str:
        if self.spell.maybe(0.1):
            return f"({self.selector()} % {self.spell.number()} * {self.spell.number()})"
        pair = [self.vector(depth), self.scalar(depth)]
        if self.rng.random() < 0.4:
            pair.reverse()
        return f"({pair[0]} {self._operator()} {pair[1]})"

    def _with_vector(self, depth: int) -> str:
        matching, group = self._matching(), ""
        if matching and self.rng.random() < 0.5:
            word = self.spell.word(self._pick(["group_left", "group_right"]))
            group = (
                f" {word}{self._pick([' ()', ' ()', '', ' (zone)', ' (instance)', ' (zone, method)', ' (nothing)'])}"
            )
        pair = [
            self.vector(depth),
            self._pick([self.vector(depth), f"sum by (job) ({self.vector(max(1, depth - 1))})"]),
        ]
        if self.rng.random() < 0.3:
            pair.reverse()
        return f"({pair[0]} {self._operator()} {matching}{group} {pair[1]})"

    def _set(self, depth: int) -> str:
        operator = self.spell.word(self._pick(SETS))
        return f"({self.vector(depth)}{self.spell.blank()}{operator} {self._matching()} {self.vector(depth)})"

    def _of_range(self, depth: int) -> str:
        roll = self.rng.random()
        if roll < 0.35:
            return f"{self._pick(OF_COUNTER)}({self.range(depth if self.newest else 1, COUNTERS)})"
        if roll < 0.6:
            return f"{self._pick(OVER_TIME)}_over_time({self.range(depth)})"
        if roll < 0.8:
            return f"{self._pick(OF_RANGE)}({self.range(depth)})"
        ranged, factor = self.range(depth), self._pick(["0.3", "0", "NaN", self.scalar(1)])
        smoothing = "double_exponential_smoothing" if self.newest else "holt_winters"
        predicted = ranged if self.newest else f"{self._metric(GAUGES)}[5m]"
        return self._pick([
            f"quantile_over_time({self.scalar(1)}, {ranged})", f"absent_over_time({ranged})",
            f"predict_linear({predicted}, {self.scalar(1)})", f"{smoothing}({ranged}, {factor}, 0.6)",
        ])  # fmt: skip

    def _of_value(self, depth: int) -> str:
        operand, roll = self.vector(depth), self.rng.random()
        if roll < 0.15:
            # Beyond some years, and for NaN, the parts of a date depend on the processor Prometheus runs on.
            return f"{self._pick(OF_DATE)}({self._pick(['', f'timestamp({operand})'])})"
        if roll < 0.3:
            scalar = self.scalar(depth)
            return self._pick([
                f"clamp({operand}, {self.scalar(1)}, {scalar})", f"clamp_min({operand}, {scalar})",
                f"clamp_max({operand}, {scalar})", f"round({operand}, 0.25)", f"round({operand})",
                f"round({operand}, {scalar})",
            ])  # fmt: skip
        if roll < 0.4:
            return f"{self._pick(['cos', 'sin', 'tan'])}(clamp({operand}, -50, 50))"
        return f"{self._pick(OF_VALUE)}({operand})"

    def _of_labels(self, depth: int) -> str:
        operand, target = self.vector(depth), self._pick(["job", "new", "zone", "__name__", "method"])
        source = self._pick(LABELS)
        if self.rng.random() < 0.3:
            sources = ", ".join(f'"{name}"' for name in self.rng.sample(LABELS, self.rng.randrange(4)))
            return f'label_join({operand}, "{target}", "{self._pick(["-", "", "Ä"])}"{sources and ", "}{sources})'
        return f'label_replace({operand}, "{target}", "{self._pick(TEMPLATES)}", "{source}", "{self._pick(PATTERNS)}")'

    def _other(self, depth: int) -> str:
        quantile = self._pick(["0.5", "0.9", "0", "1", "NaN", "2", self.scalar(depth)])
        rates = ["rate(lat_bucket[2m])", "sum by (job, le) (rate(lat_bucket[5m]))"]
        buckets = self._pick(["lat_bucket", "bad_bucket", *rates, self.vector(depth)])
        return self._pick([
            f"absent({self.vector(depth)})", f"vector({self.scalar(depth)})", f"-({self.vector(depth)})",
            f"-{self.vector(depth)}", f"histogram_quantile({quantile}, {buckets})",
            f"histogram_quantile({quantile}, {buckets})",
        ])  # fmt: skip

    def _new(self, depth: int) -> str:
        operand = self.vector(depth)
        if not self.in_subquery and "info(" not in operand and ":" not in operand and self.spell.maybe(0.2):
            return self._pick([f"info({operand})", f'info({operand}, {{version=~".+"}})'])
        ratio, upper = self._pick(["0.3", "-0.7", "0.5", "1.5", "0", "-1"]), self._pick(["0.7", "Inf", "2"])
        when = self._pick(["last", "max", "min"])
        by = self._pick(["", ', "job"', ', "zone", "job"'])
        return self._pick([
            f"mad_over_time({self._metric(COUNTERS)}[5m])", f"(time() - ts_of_{when}_over_time({self.range(depth)}))",
            self._aggregate("limit_ratio", f"{ratio}, {operand}"),
            f"count({self._aggregate('limitk', f'2, {operand}')})",
            f"count({self._pick(['sort_by_label', 'sort_by_label_desc'])}({operand}{by}))",
            f"histogram_fraction({self._pick(['0.2', '-Inf', '2', '0.1'])}, {upper}, lat_bucket)",
        ])  # fmt: skip
