"""What the answer of a receiver means for what was sent, and how long to wait before it is sent again."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Literal

Verdict = Literal["taken", "refused", "later"]

FIRST_MS, LONGEST_MS, LONGEST_ASKED_MS = 200, 30_000, 300_000


def verdict(status: int) -> Verdict:
    """Whether a receiver took it, will never take it, or may take it later (429 and 5xx, as for Prometheus)."""
    if 200 <= status < 300:
        return "taken"
    return "later" if status == 429 or status >= 500 else "refused"


def retry_after_ms(header: str, now_ms: int) -> int:
    """How long a receiver asks to be left alone (`Retry-After`: seconds or a date), 0 if it cannot be read.

    At most five minutes: nobody is left alone for good.
    """
    if header.isascii() and header.isdecimal():
        asked_ms = int(header[:12]) * 1000
    else:
        try:
            asked_ms = int(parsedate_to_datetime(header).timestamp() * 1000) - now_ms
        except (ValueError, OverflowError):
            return 0
    return max(0, min(asked_ms, LONGEST_ASKED_MS))


class Backoff:
    """A pause that doubles with every failure, and is short again after a success."""

    def __init__(self) -> None:
        self._next_ms = FIRST_MS

    def failed(self, asked_ms: int = 0) -> int:
        """How long to wait now; no shorter than the receiver asked."""
        pause_ms = max(self._next_ms, asked_ms)
        self._next_ms = min(self._next_ms * 2, LONGEST_MS)
        return pause_ms

    def succeeded(self) -> None:
        """Begin anew."""
        self._next_ms = FIRST_MS
