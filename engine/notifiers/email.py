"""E-mail: one thread for each incident, plain text.

The Message-ID is made from the notice, so a mail that is sent twice is one mail to programs that look at it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import aiosmtplib

from engine.core.masking import mask_text
from engine.edge.settings_notify import EmailReceiver
from engine.notifiers import Environment, Message, NotDeliveredError, Notifier, Sent
from engine.notifiers._http import tls
from engine.response.model import NoticeKind

SUBJECT_CHARACTERS = 200
_PREFIX: dict[NoticeKind, str] = {"held": "to be decided: ", "escalate": "escalated: ", "resolved": "resolved: "}


async def deliver(
    env: Environment, receiver: EmailReceiver, message: Message, thread: Sequence[Sent]
) -> dict[str, Any]:
    """Send the mail. The receipt has its `message_id`, what the server said, and the addresses that it `refused`."""
    settings = env.settings.email
    mail = compose(receiver.to, settings.sender, message, thread)
    try:
        refused, said = await aiosmtplib.send(
            mail,
            hostname=settings.host,
            port=settings.port,
            use_tls=settings.tls == "tls",
            start_tls=settings.tls == "starttls",
            tls_context=None if settings.tls == "none" else tls(settings.ca_file),
            username=settings.username or None,
            password=env.secret(settings, "password") if settings.username else None,
            timeout=env.settings.timeout_s,
        )
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [one.code for one in error.recipients]
        told = "; ".join(f"{one.recipient}: {one.code} {one.message}" for one in error.recipients)
        raise NotDeliveredError(told, final=all(code >= 500 for code in codes)) from error
    except aiosmtplib.SMTPResponseException as error:
        raise NotDeliveredError(mask_text(f"{error.code} {error.message}"), final=error.code >= 500) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise NotDeliveredError(f"{type(error).__name__}: {error}") from error
    receipt: dict[str, Any] = {"message_id": str(mail["Message-ID"]), "said": said}
    return receipt | ({"refused": {name: answer.message for name, answer in refused.items()}} if refused else {})


def compose(to: Sequence[str], sender: str, message: Message, thread: Sequence[Sent]) -> EmailMessage:
    """The mail."""
    incident = message.incident
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    prefix = _PREFIX.get(message.kind, "")
    mail["Subject"] = _line(f"[{incident.priority}] {prefix}{incident.title} (incident {incident.id})")
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at_ms / 1000, UTC))
    mail["Message-ID"] = _message_id(f"{message.key}/{message.id}/{','.join(to)}", sender)
    mail["Auto-Submitted"] = "auto-generated"
    earlier = [str(sent.receipt["message_id"]) for sent in thread if sent.receipt.get("message_id")]
    if earlier:
        mail["In-Reply-To"], mail["References"] = earlier[-1], " ".join(dict.fromkeys([earlier[0], earlier[-1]]))
    mail.set_content("\n".join(_body(message)) + "\n")
    return mail


def _body(message: Message) -> list[str]:
    incident = message.incident
    lines = [message.text, ""]
    if message.kind == "held" and message.held is not None:
        held = message.held
        who = f" by {held.people} people" if held.people > 1 else ""
        lines += [
            f"To be decided{who}:",
            f"  {held.what}",
            f"  sha256 {held.sha256}",
            f"  until {_time(held.expires_ms)}",
        ]
        lines += [f"  sentinel approve {held.command} --by NAME --sha256 {held.sha256[:12]}     (or deny)", ""]
    lines += [
        f"Incident  {incident.id}, {incident.status}: {incident.title}",
        f"Priority  {incident.priority}, severity {incident.severity or 'none'}",
        f"Opened    {_time(incident.opened_ms)}",
        f"Runbook   {incident.runbook}",
        f"Labels    {' '.join(f'{name}={value}' for name, value in sorted(incident.labels.items()))}",
    ]
    return lines + ([f"Console   {incident.url}"] if incident.url else [])


def _time(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _line(text: str) -> str:
    """A header's text: in one line, whatever a label holds."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:SUBJECT_CHARACTERS]


def _message_id(mark: str, sender: str) -> str:
    return f"<{hashlib.sha256(mark.encode()).hexdigest()[:40]}@{sender.rpartition('@')[2]}>"


NOTIFIER = Notifier(
    name="email",
    receiver=EmailReceiver,
    kinds=frozenset({"opened", "notify", "escalate", "held", "resolved"}),
    deliver=deliver,
)
