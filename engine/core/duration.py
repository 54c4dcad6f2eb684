"""Durations as Prometheus and Loki write them: `90s`, `1h30m`, `500ms`."""

from __future__ import annotations

import re

_UNITS_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}
_DURATION = re.compile(r"(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m(?!s))?(?:\d+s)?(?:\d+ms)?")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")


def parse_ms(text: str) -> int:
    """Milliseconds of a duration; units from large to small, each at most once (Prometheus's grammar).

    Raises `ValueError` for anything else.
    """
    if text == "0":
        return 0
    if not text or not _DURATION.fullmatch(text):
        raise ValueError(f"not a duration: {text!r} (write it like 30s, 5m or 1h30m)")
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))


def format_ms(duration_ms: int) -> str:
    """The shortest text of a duration, e.g. 90000 -> "1m30s"."""
    if duration_ms == 0:
        return "0s"
    out, rest = [], duration_ms
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        if count:
            out.append(f"{count}{unit}")
    return "".join(out)
