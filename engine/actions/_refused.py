"""The error of an action that must not go on."""

from __future__ import annotations


class RefusedError(Exception):
    """Something forbids the change, and nothing was done. `reason` is a short name, the message says what and where."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
