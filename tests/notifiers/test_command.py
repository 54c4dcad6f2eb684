"""`sentinel notify test`, and `sentinel check` with settings: arguments in, exit code and output back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from tests.notifiers.site import CHANNELS, RUNBOOKS, Services
from tests.notifiers.stubs import SLACK_TOKEN

Ran = tuple[int, str, str]
Sentinel = Callable[..., Awaitable[Ran]]


@pytest.fixture
def sentinel(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sentinel:
    """Run `sentinel ARGS` in a folder with settings that name the stubs."""
    ca_file = str(services.tls.ca_file)
    tree: dict[str, Any] = {
        "receivers": {name: CHANNELS[name] for name in ("on-call", "ops", "lead")},
        "pagerduty": {"url": services.pagerduty.url, "ca_file": ca_file},
        "slack": {"url": services.slack.url, "ca_file": ca_file, "token_env": "TEST_SLACK_TOKEN"},
        "email": {"host": "127.0.0.1", "port": services.mailbox.port, "sender": "s@example.org", "tls": "none"},
    }
    (tmp_path / "sentinel.yml").write_text(json.dumps({"notify": tree}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SENTINEL_CONFIG", raising=False)
    monkeypatch.setenv("TEST_SLACK_TOKEN", SLACK_TOKEN)

    def run(*args: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["sentinel", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    async def in_a_thread(*args: str) -> Ran:  # the stubs answer in this loop, the command has its own
        return await asyncio.to_thread(run, *args)

    return in_a_thread


async def test_a_test_message_reaches_pagerduty_and_says_what_came_back(sentinel: Sentinel, services: Services) -> None:
    code, out, _ = await sentinel("notify", "test", "on-call")
    [event] = services.pagerduty.events
    assert event["payload"]["severity"] == "info"
    assert (code, out.splitlines()) == (
        0,
        ["on-call was told:", f"  dedup_key  {event['dedup_key']}", "  event_action  trigger"],
    )


async def test_a_test_message_reaches_slack_and_an_address(sentinel: Sentinel, services: Services) -> None:
    assert (await sentinel("notify", "test", "ops"))[0] == 0
    assert "This is a test" in services.slack.posted[0]["text"]
    assert (await sentinel("notify", "test", "ada@example.org"))[0] == 0
    assert services.mailbox.mails[0]["To"] == "ada@example.org"


async def test_programs_get_the_receipt_as_json(sentinel: Sentinel) -> None:
    _, out, _ = await sentinel("notify", "test", "ops", "--json")
    said = json.loads(out)
    assert (said["receiver"], said["delivered"], said["receipt"]["channel"]) == ("ops", True, "C0OPS")


async def test_a_receiver_that_cannot_be_told_is_the_answer_no(sentinel: Sentinel, services: Services) -> None:
    services.pagerduty.go_away(1)
    assert await sentinel("notify", "test", "on-call") == (
        1,
        "",
        'sentinel: on-call was not told: HTTP 503: {"error": "not now"}\n',
    )


async def test_a_receiver_that_is_not_there_cannot_be_asked(sentinel: Sentinel) -> None:
    code, _, err = await sentinel("notify", "test", "nobody")
    assert (code, err) == (2, "sentinel: nobody is called 'nobody' in notify.receivers; there: lead, on-call, ops\n")


async def test_a_runbook_that_names_a_stranger_is_an_error_with_its_place(sentinel: Sentinel, tmp_path: Path) -> None:
    (tmp_path / "rules" / "runbooks").mkdir(parents=True)
    (tmp_path / "rules" / "runbooks" / "book.yml").write_text(RUNBOOKS.replace("to: lead", "to: leed"))
    code, out, err = await sentinel("check")
    assert code == 1
    assert "rules/runbooks/book.yml:7:38: error: nobody is called 'leed' in notify.receivers" in err
    assert "2 errors" in out
    assert (await sentinel("check", "--set", "notify.receivers={}", "--set", "notify.email.host="))[0] == 0
