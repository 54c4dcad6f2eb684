"""The console's HTML: Jinja2 templates with autoescape, and the few filters they use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
# Labels that say what an alert is, not where it is: shown elsewhere on the page already.
_NOT_PLACE = {"alertname", "severity"}


def clock_time(t_ms: int) -> str:
    """A time as people at work write it: 2026-01-31 23:59:59 UTC."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso_time(t_ms: int) -> str:
    """A time for machines."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).isoformat(timespec="milliseconds")


def span(duration_ms: int) -> str:
    """A length of time in its two largest units: 12 s, 3 min 20 s, 2 h 5 min, 4 d 1 h; never negative."""
    seconds = max(duration_ms, 0) // 1000
    if seconds < 60:
        return f"{seconds} s"
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    first = next(index for index, (_, size) in enumerate(units) if seconds >= size)
    (large, large_s), (small, small_s) = units[first], units[first + 1]
    count, rest = divmod(seconds, large_s)
    return f"{count} {large} {rest // small_s} {small}" if rest // small_s else f"{count} {large}"


def place(labels: Mapping[str, str]) -> str:
    """A label set without what the page says anyway: `job=bridge namespace=aureus`."""
    return " ".join(f"{name}={value}" for name, value in sorted(labels.items()) if name not in _NOT_PLACE)


def compact(value: object) -> str:
    """Parameters in one line of JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def environment() -> Environment:
    """The template environment: everything is escaped, an unknown name is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"clock": clock_time, "iso": iso_time, "span": span, "place": place, "compact": compact}
    return made
