"""Who is connected to the gateway: plain data with time passed in, so that its rules can be read and tested."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

CHANNELS = ("telegram", "discord", "slack", "web")
STALE_AFTER_S = 10.0  # clients send a keep-alive every 4 s; two missed and a third late means nobody is there

Handle = TypeVar("Handle", bound=Hashable)


@dataclass
class Connection(Generic[Handle]):
    """One chat. `last_seen_s` is when the client last sent anything (monotonic seconds)."""

    handle: Handle
    channel: str
    user: str
    last_seen_s: float
    reported_stale: bool = False


@dataclass
class ConnectionTable(Generic[Handle]):
    """The open connections, the blocklist and the limit per channel (None: no limit)."""

    limit: int | None = None
    stale_after_s: float = STALE_AFTER_S
    blocked: dict[str, str] = field(default_factory=dict)
    _open: dict[Handle, Connection[Handle]] = field(default_factory=dict)
    _per_channel: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))

    def __len__(self) -> int:
        return len(self._open)

    def active(self, channel: str) -> int:
        """Open connections of a channel."""
        return self._per_channel[channel]

    def full(self, channel: str) -> bool:
        """Whether one more connection would pass the limit."""
        return self.limit is not None and self.active(channel) >= self.limit

    def add(self, connection: Connection[Handle]) -> None:
        """A connection opened."""
        self._open[connection.handle] = connection
        self._per_channel[connection.channel] += 1

    def remove(self, handle: Handle) -> None:
        """A connection closed; removing it again changes nothing."""
        if gone := self._open.pop(handle, None):
            self._per_channel[gone.channel] -= 1

    def everyone(self) -> list[Connection[Handle]]:
        """All open connections."""
        return list(self._open.values())

    def of_user(self, user: str) -> list[Connection[Handle]]:
        """The open connections of one user."""
        return [connection for connection in self._open.values() if connection.user == user]

    def beyond_limit(self) -> list[Connection[Handle]]:
        """What must go for every channel to keep its limit: the longest silent first."""
        if self.limit is None:
            return []
        oldest_first = sorted(self._open.values(), key=lambda connection: connection.last_seen_s)
        surplus = {channel: max(0, count - self.limit) for channel, count in self._per_channel.items()}
        chosen = []
        for connection in oldest_first:
            if surplus[connection.channel] > 0:
                surplus[connection.channel] -= 1
                chosen.append(connection)
        return chosen

    def stale(self, now_s: float) -> list[Connection[Handle]]:
        """Connections whose client has been silent for `stale_after_s`: probably leaked."""
        return [c for c in self._open.values() if now_s - c.last_seen_s >= self.stale_after_s]
