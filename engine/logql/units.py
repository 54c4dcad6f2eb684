"""Text with units: Go durations and byte sizes in log lines and expressions, and Go string literals."""

from __future__ import annotations

import math
import re

from engine.core import duration

_GO_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_GO_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_BYTES = re.compile(r"((?:\d[\d,]*)?(?:\.\d*)?)\s*([a-z]*)", re.IGNORECASE)
_BYTE_UNITS = {
    "": 1,
    "b": 1,
    **{f"{letter}{tail}": 1000**power for power, letter in enumerate("kmgtpe", 1) for tail in ("", "b")},
    **{f"{letter}i{tail}": 1024**power for power, letter in enumerate("kmgtpe", 1) for tail in ("", "b")},
}
_NUMBER = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf|infinity)|nan", re.IGNORECASE)
_HEX_NUMBER = re.compile(r"[-+]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)p[-+]?\d+", re.IGNORECASE)
_LONGEST = 64  # no value is written longer; a label value may be of any length
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}


def number(text: str) -> float:
    """A number as Go's `ParseFloat` reads it. Raises `ValueError`, also for one that a float cannot hold."""
    if len(text) <= _LONGEST and _NUMBER.fullmatch(text):
        value = float(text)
        if math.isinf(value) and text[-1].isdigit():
            raise ValueError(f"value out of range: {text!r}")
        return value
    if len(text) <= _LONGEST and _HEX_NUMBER.fullmatch(text):
        return float.fromhex(text)
    raise ValueError(f"not a number: {text[:_LONGEST]!r}")


def duration_s(text: str) -> float:
    """Seconds of a Go duration such as `1h2m0.5s`. Raises `ValueError`."""
    if text in ("0", "+0", "-0"):
        return 0.0
    if len(text) > _LONGEST or not _GO_DURATION.fullmatch(text):
        raise ValueError(f"not a duration: {text[:_LONGEST]!r}")
    seconds = math.fsum(float(count) * _GO_UNIT_S[unit] for count, unit in _GO_PART.findall(text))
    return -seconds if text[0] == "-" else seconds


def size_bytes(text: str) -> float:
    """Bytes of a size such as `5KB` (1000) or `5KiB` (1024). Raises `ValueError`."""
    match = _BYTES.fullmatch(text.rstrip()) if len(text) <= _LONGEST else None
    digits = match[1].replace(",", "") if match else ""
    if match is None or digits in ("", ".") or match[2].lower() not in _BYTE_UNITS:
        raise ValueError(f"not a size in bytes: {text[:_LONGEST]!r}")
    return float(int(float(digits) * _BYTE_UNITS[match[2].lower()]))


def literal_duration_s(text: str) -> float:
    """Seconds of a duration in an expression: Go's units, and days, weeks and years. Raises `ValueError`."""
    return duration_s(text) if _GO_DURATION.fullmatch(text) else duration.parse_ms(text) / 1000


def unquote(text: str) -> str:
    """The content of a string literal: in backquotes as it stands, in double quotes with Go's escapes.

    Raises `ValueError` for an escape that Go does not have.
    """
    if text[0] == "`":
        return text[1:-1]
    return _ESCAPE.sub(_unescape, text[1:-1]) if "\\" in text else text[1:-1]


def _unescape(match: re.Match[str]) -> str:
    body = match[1]
    if body in _SIMPLE:
        return _SIMPLE[body]
    if len(body) > 1:
        return chr(int(body, 8)) if body[0] in "01234567" else chr(int(body[1:], 16))
    raise ValueError(f"unknown escape \\{body} in a string (write it in backquotes, or double the backslash)")
