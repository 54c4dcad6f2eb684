"""Commands about notifications: a test message to one receiver."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from engine.cli.common import Config, Set, settings
from engine.cli.output import NO, Json, Stop, say, say_json
from engine.edge.clock import now_ms
from engine.edge.settings import Settings

notify = typer.Typer(help="Notifications.", no_args_is_help=True)


@notify.callback()
def _group() -> None:
    """Notifications."""


@notify.command("test")
def send_test(
    receiver: Annotated[str, typer.Argument(metavar="RECEIVER", help="A name in notify.receivers, or an address.")],
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Send a test message to a receiver now, and say what came back; exit 1 if it was not delivered."""
    receipt = asyncio.run(_send(receiver, settings(config, set_).settings))
    if json:
        say_json({"receiver": receiver, "delivered": True, "receipt": receipt})
        return
    say(f"{receiver} was told:")
    for name, value in receipt.items():
        say(f"  {name}  {value}")


async def _send(receiver: str, current: Settings) -> dict[str, Any]:
    from engine.edge.notifying import target_of  # brings the services' libraries, which other commands do without
    from engine.notifiers import Environment, IncidentNow, Message, NotDeliveredError, load_notifiers

    target = target_of(receiver, current.notify, load_notifiers())
    if target is None:
        known = ", ".join(sorted(current.notify.receivers)) or "nobody"
        raise Stop(f"nobody is called {receiver!r} in notify.receivers; there: {known}")
    at_ms = now_ms()
    url = current.http.external_url
    incident = IncidentNow(
        0, "Test message from Aureus Sentinel", "open", "P3", "info", "none", {"alertname": "Test"}, at_ms, url
    )
    message = Message(f"test-{at_ms}", "notify", "This is a test: nothing is wrong.", at_ms, incident)
    try:
        return await target.notifier.deliver(Environment(current.notify, now_ms), target.settings, message, [])
    except NotDeliveredError as error:
        raise Stop(f"{receiver} was not told: {error}", NO) from error
