"""The gateway's connection table: plain data, time passed in."""

import pytest

from examples.aureus.connections import STALE_AFTER_S, Connection, ConnectionTable


def table_of(*connections: tuple[str, str, str, float]) -> ConnectionTable[str]:
    table: ConnectionTable[str] = ConnectionTable()
    for handle, channel, user, last_seen_s in connections:
        table.add(Connection(handle, channel, user, last_seen_s))
    return table


def test_connections_are_counted_per_channel_and_a_second_removal_changes_nothing() -> None:
    table = table_of(("a", "discord", "u1", 0), ("b", "discord", "u2", 0), ("c", "web", "u1", 0))
    table.remove("a")
    table.remove("a")
    assert (table.active("discord"), table.active("web"), table.active("slack"), len(table)) == (1, 1, 0, 2)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, []),
        (3, []),
        (2, ["silent for long"]),
        (1, ["silent for long", "silent"]),
    ],
)
def test_a_limit_reaps_the_longest_silent_of_each_channel(limit: int | None, expected: list[str]) -> None:
    table = table_of(
        ("talking", "discord", "u", 30),
        ("silent for long", "discord", "u", 10),
        ("silent", "discord", "u", 20),
        ("other channel, silent longest", "web", "u", 0),
    )
    table.limit = limit
    assert [connection.handle for connection in table.beyond_limit()] == expected


@pytest.mark.parametrize(("limit", "full"), [(None, False), (2, False), (1, True)])
def test_a_channel_is_full_at_its_limit(limit: int | None, full: bool) -> None:
    table = table_of(("a", "discord", "u", 0))
    table.limit = limit
    assert table.full("discord") is full
    assert not table.full("web")


def test_a_connection_is_stale_once_its_client_was_silent_long_enough() -> None:
    table = table_of(("a", "discord", "u", 100), ("b", "discord", "u", 101))
    assert [c.handle for c in table.stale(100 + STALE_AFTER_S)] == ["a"]


def test_connections_of_a_user_are_found_on_every_channel() -> None:
    table = table_of(("a", "discord", "eve", 0), ("b", "web", "eve", 0), ("c", "web", "bob", 0))
    assert {c.handle for c in table.of_user("eve")} == {"a", "b"}
