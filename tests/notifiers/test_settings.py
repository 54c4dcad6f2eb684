"""Settings of notifications: what is refused, and runbooks that name somebody whom nobody can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.actions import load_actions
from engine.core.masking import MASK
from engine.edge.runbook_settings import unknown_receivers
from engine.edge.settings_load import load
from engine.edge.settings_notify import NotifySettings, is_address
from engine.edge.settings_view import entries
from engine.response.runbook import load_runbooks
from tests.notifiers.site import RUNBOOKS
from tests.notifiers.stubs import ROUTING_KEY

PD = {"pagerduty": {"routing_key": ROUTING_KEY}}
MAIL = {"host": "mail.example.org", "sender": "s@example.org"}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"receivers": {"a": {}}}, "exactly one channel, this one has 0"),
        ({"receivers": {"a": PD | {"slack": {"channel": "C1"}}}}, "exactly one channel, this one has 2"),
        ({"receivers": {"a": {"pagerduty": {}}}}, "needs routing_key, routing_key_env or routing_key_file"),
        (
            {"receivers": {"a": {"pagerduty": {"routing_key": "x", "routing_key_env": "Y"}}}},
            "give one of routing_key, routing_key_env and routing_key_file",
        ),
        ({"receivers": {"a b": PD}}, "String should match pattern"),
        ({"receivers": {"a@b.c": PD}}, "String should match pattern"),
        ({"receivers": {"a": {"slack": {"channel": "#ops"}}}}, "String should match pattern"),
        ({"receivers": {"a": {"slack": {"channel": "C1"}}}}, "receiver a needs slack.token"),
        ({"receivers": {"a": {"email": {"to": ["x@example.org"]}}}}, "receiver a needs email.host"),
        ({"receivers": {"a": {"email": {"to": []}}}, "email": MAIL}, "at least 1 item"),
        ({"receivers": {"a": {"email": {"to": ["x, y@z"]}}}, "email": MAIL}, "not an e-mail address"),
        ({"receivers": {"a": {"alertmanager": {"url": "am:9093"}}}}, "must be a URL that starts with http"),
        ({"email": {"host": "mail.example.org"}}, "needs a sender beside the host"),
        ({"email": MAIL | {"tls": "none", "username": "u"}}, "not sent over a connection without tls"),
        ({"slack": {"approvers": ["ada"]}}, "String should match pattern"),
        ({"slack": {"token": "x", "token_file": "/x"}}, "give one of token, token_env and token_file"),
    ],
)
def test_settings_that_cannot_work_are_refused(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NotifySettings.model_validate(tree)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("a@example.org", True), ("on-call", False), ("a@b@c", False), ("a b@c", False), ("<a@b>", False), ("@", False)],
)
def test_a_name_with_an_at_is_an_address_if_it_is_one(text: str, is_one: bool) -> None:
    assert is_address(text) is is_one


def test_no_secret_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "sentinel.yml"
    file.write_text(
        "notify:\n"
        "  receivers: {a: {pagerduty: {routing_key: hush-1}}}\n"
        "  slack: {token: hush-2, signing_secret: hush-3}\n"
        "  email: {host: m, sender: s@example.org, username: u, password: hush-4}\n"
        "  pagerduty: {webhook_secret: hush-5}\n"
    )
    shown = {entry.key: entry.value for entry in entries(load(file))}
    assert shown["notify.receivers.a.pagerduty.routing_key"] == shown["notify.slack.signing_secret"] == MASK
    assert "hush" not in str(shown)


def named(tree: dict[str, Any]) -> list[str]:
    runbooks, problems = load_runbooks(RUNBOOKS, "book.yml", actions=load_actions())
    assert problems == []
    return [str(problem) for problem in unknown_receivers(runbooks, NotifySettings.model_validate(tree))]


def test_every_name_that_nobody_has_is_said_with_its_place() -> None:
    assert named({"receivers": {"on-call": PD, "ops": PD}}) == [
        "book.yml:7:38: error: nobody is called 'lead' in notify.receivers "
        "(there: on-call, ops; e-mail addresses need notify.email)",
        "book.yml:7:62: error: nobody is called 'boss@example.org' in notify.receivers "
        "(there: on-call, ops; e-mail addresses need notify.email)",
        "book.yml:15:34: error: nobody is called 'lead' in notify.receivers "
        "(there: on-call, ops; e-mail addresses need notify.email)",
    ]


def test_an_address_needs_only_a_mail_server() -> None:
    assert named({"receivers": {"on-call": PD, "ops": PD, "lead": PD}, "email": MAIL}) == []


def test_names_are_free_while_nobody_can_be_told() -> None:
    assert named({}) == []
