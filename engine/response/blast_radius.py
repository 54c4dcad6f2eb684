"""Blast radius: no more than a share of like things is acted on without a person, within a time (design: Safety 4)."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from engine.response.words import span

_ROUNDING = 1e-9  # a share like 0.29 of 100 is 29, whatever binary fractions make of it


class Fleet(Struct, frozen=True):
    """The like things that a target is one of, such as the workloads of a namespace, and how many there are now."""

    name: str
    size: int


class BlastRadius(Struct, frozen=True):
    """So much of a fleet, `share` rounded down but `at_least` so many, is acted on alone within `window_ms`."""

    share: float = 0.3
    at_least: int = 1
    window_ms: int = 3_600_000

    def most(self, size: int) -> int:
        """How many of a fleet of this size may be acted on."""
        return max(self.at_least, int(self.share * size + _ROUNDING))

    def beyond(self, fleet: Fleet, target: str, acted_on: Collection[str]) -> str | None:
        """Why a target of a fleet must be left alone, None if it need not; `acted_on` are targets within the window.

        The same target again is the cooldown's business.
        """
        done, most = len(set(acted_on)), self.most(fleet.size)
        if target in acted_on or done < most:
            return None
        return (
            f"{done} of {fleet.size} {fleet.name} were acted on within {span(self.window_ms)}, and alone it may be "
            f"{most}: a person has to agree"
        )
