"""A cache with a limit that forgets what has not been asked for lately."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Young(dict[K, V]):
    """A dictionary that asks elsewhere for what it does not hold."""

    def __init__(self, missing: Callable[[K], V | None]) -> None:
        super().__init__()
        self._missing = missing

    def __missing__(self, key: K) -> V | None:
        return self._missing(key)


class RecentCache(Generic[K, V]):
    """Keeps at most twice `limit` entries, and always those that were used since the last `limit` new ones came.

    Two dictionaries: new entries and old ones that are asked for stand in the young one; when it is full it becomes
    the old one, and what nobody asked for is gone with the one before. A hit is a look-up in a dictionary and nothing
    else.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young = _Young[K, V](self._from_old)
        self._old: dict[K, V] = {}
        self.get: Callable[[K], V | None] = self._young.__getitem__
        """What was put under this key, or None if nothing was or it has been forgotten."""

    def put(self, key: K, value: V) -> None:
        """Keep a value; it must not be None."""
        if len(self._young) >= self._limit:
            self._old = dict(self._young)
            self._young.clear()
        self._young[key] = value

    def clear(self) -> None:
        """Forget everything."""
        self._young.clear()
        self._old.clear()

    def _from_old(self, key: K) -> V | None:
        found = self._old.pop(key, None)
        if found is not None:
            self.put(key, found)
        return found

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
