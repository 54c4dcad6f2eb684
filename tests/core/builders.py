"""Builders for core tests: batches and rule groups in a line."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from engine import promql
from engine.core import labels as label_sets
from engine.core.blocks import is_block, unpack
from engine.core.messages import MetricBatch, pack
from engine.core.rules import RuleGroup, parse_rules

Point = tuple[str, int, float]
"""One sample: series as `name{label=value,...}` without quotes, time in ms, value."""


def label_bytes(series: str) -> bytes:
    """`up{job=a}` -> canonical label bytes."""
    name, _, rest = series.partition("{")
    pairs = dict(pair.split("=") for pair in rest.rstrip("}").split(",") if pair)
    return label_sets.encode({"__name__": name, **pairs})


def batch(
    source: str, seq: int, watermark_ms: int, points: Sequence[Point] = (), received_ms: int | None = None
) -> MetricBatch:
    """A metric batch, received when its watermark says if nothing else is given; without points, a heartbeat."""
    return MetricBatch(
        source=source,
        epoch=1,
        seq=seq,
        watermark_ms=watermark_ms,
        received_ms=watermark_ms if received_ms is None else received_ms,
        series=[Raw(label_bytes(series)) for series, _, _ in points],
        t_ms=[t_ms for _, t_ms, _ in points],
        values=pack([value for _, _, value in points]),
    )


def flat(series: Sequence[bytes | Raw], t_ms: Sequence[int]) -> list[tuple[bytes, int]]:
    """Label bytes and time of each sample, blocks taken apart."""
    return [
        (labels, at_ms)
        for entry, at_ms in zip(map(bytes, series), t_ms, strict=True)
        for labels in (map(label_sets.encode, unpack(entry)) if is_block(entry) else [entry])
    ]


def groups(yaml: str, file: str = "rules.yml") -> list[RuleGroup]:
    """The PromQL rule groups of a file that must be right."""
    found, problems = parse_rules(yaml, file, promql.compile)
    assert not [p for p in problems if p.severity == "error"], "\n".join(map(str, problems))
    return found


def one_rule(expr: str, **keys: str) -> list[RuleGroup]:
    """One group `g` with one rule `A`, evaluated every ten seconds; keys as in a rule file (`for_` for `for`)."""
    extra = "".join(f"\n        {name.rstrip('_')}: {value}" for name, value in keys.items())
    return groups(
        f"""
groups:
  - name: g
    interval: 10s
    rules:
      - alert: A
        expr: {expr}{extra}
"""
    )
