"""How things are said to people: spans of time, counts, whom to tell; and text made fit to be stored.

PostgreSQL's text has no NUL character, so one in a label or a log line would stop everything that reads it later. It is
replaced where data enters, once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from engine.core import duration

_REPLACEMENT = "\ufffd"
Message = TypeVar("Message", bound=Struct)


def span(span_ms: int) -> str:
    """A span of time, to the second from one second on: 90500 -> "1m30s"."""
    return duration.format_ms(span_ms // 1000 * 1000 if span_ms >= 1000 else max(0, span_ms))


def clock(t_ms: int) -> str:
    """A time of day in UTC, with its date: "2026-01-31 23:59:59 UTC"."""
    return dt.datetime.fromtimestamp(t_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def count(number: int, noun: str) -> str:
    """A number of things: "1 row", "2 rows"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def to_be_told(to: Sequence[str]) -> str:
    """Whom an escalation is for. It says what is true then: the notice is written, and not delivered yet."""
    return f"to be told: {', '.join(to)}" if to else "the runbook names nobody to tell"


def line_of(text: str) -> str:
    """One line of Markdown's plain text: nothing an event wrote can become a heading, a link or HTML."""
    flat = " ".join(str(text).split())
    for sign in ("\\", "`", "<", "[", "|"):
        flat = flat.replace(sign, "\\" + sign)
    return flat.rstrip(".")


def without_nul(text: str) -> str:
    """The text with each NUL character replaced by U+FFFD."""
    return text.replace("\x00", _REPLACEMENT)


def cleaned(message: Message) -> Message:
    """The message with every text in it as `without_nul`, however deep."""
    if b"\\u0000" not in msgspec.json.encode(message):
        return message
    return msgspec.convert(_cleaned(msgspec.to_builtins(message)), type(message))


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value
