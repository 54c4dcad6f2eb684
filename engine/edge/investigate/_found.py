"""What a source gives: rows, or status and body, or the reason why there is no answer."""

from __future__ import annotations

from dataclasses import dataclass, field

Rows = list[dict[str, object]]


class InvestigationError(Exception):
    """A question cannot be answered; the message is what the timeline says."""


@dataclass(frozen=True)
class Found:
    """An answer. There may be more rows than were asked for; `truncated`: the source has more than these."""

    rows: Rows = field(default_factory=list)
    status: int | None = None
    body: object = None
    truncated: bool = False
