"""What every notifier of the folder promises; a new file is tested here without being named."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from engine.edge.settings_notify import CHANNELS, NotifySettings, Receiver
from engine.notifiers import CALLS, Environment, NotDeliveredError, Notifier, load_notifiers
from engine.response.model import NoticeKind
from tests.notifiers.site import Services
from tests.notifiers.test_notifiers import message
from tests.response.conftest import START_MS

NOTIFIERS = load_notifiers()
NAMES = {"pagerduty": "on-call", "slack": "ops", "email": "lead", "alertmanager": "alerts"}
OVER_HTTP = [name for name in NOTIFIERS if name != "email"]  # test_notifiers has the same of SMTP
each = pytest.mark.parametrize("notifier", NOTIFIERS.values(), ids=list(NOTIFIERS))


def receiver_of(settings: NotifySettings, notifier: Notifier) -> Any:
    return getattr(settings.receivers[NAMES[notifier.name]], notifier.name)


def env_of(settings: NotifySettings) -> Environment:
    return Environment(settings, lambda: START_MS, {})


def test_every_channel_of_a_receiver_has_its_notifier() -> None:
    assert set(NOTIFIERS) == set(CHANNELS) == set(Receiver.model_fields) - {"follow", "hours"}


@each
def test_a_receivers_settings_are_of_the_type_that_its_notifier_names(notifier: Notifier) -> None:
    assert notifier.receiver in get_args(Receiver.model_fields[notifier.name].annotation)


@each
def test_a_notifier_has_a_use_for_every_call_and_for_the_end(notifier: Notifier) -> None:
    assert {*CALLS, "resolved"} <= notifier.kinds <= set(get_args(NoticeKind))


@each
async def test_every_kind_that_it_has_a_use_for_can_be_delivered_and_gives_a_receipt(
    notifier: Notifier, services: Services
) -> None:
    settings = services.settings(*NAMES.values())
    for kind in sorted(notifier.kinds):
        receipt = await notifier.deliver(env_of(settings), receiver_of(settings, notifier), message(kind), [])
        assert receipt
        assert json.loads(json.dumps(receipt)) == receipt


@each
async def test_a_service_that_is_not_there_is_an_error_that_passes(notifier: Notifier, services: Services) -> None:
    settings = services.settings(
        *NAMES.values(),
        pagerduty={"url": "https://127.0.0.1:1"},
        slack={"url": "https://127.0.0.1:1/api/", "token": "x"},
        email={"host": "127.0.0.1", "port": 1, "sender": "s@example.org"},
    )
    receiver = receiver_of(settings, notifier)
    if notifier.name == "alertmanager":
        receiver = receiver.model_copy(update={"url": "https://127.0.0.1:1"})
    with pytest.raises(NotDeliveredError) as caught:
        await notifier.deliver(env_of(settings), receiver, message(), [])
    assert not caught.value.final


@pytest.mark.parametrize("notifier", [NOTIFIERS[name] for name in OVER_HTTP], ids=OVER_HTTP)
async def test_a_certificate_that_is_not_trusted_is_refused(notifier: Notifier, services: Services) -> None:
    settings = services.settings(
        *NAMES.values(),
        pagerduty={"url": services.pagerduty.url},
        slack={"url": services.slack.url, "token": "x"},
    )
    receiver = receiver_of(settings, notifier)
    if notifier.name == "alertmanager":
        receiver = receiver.model_copy(update={"ca_file": None})
    with pytest.raises(NotDeliveredError, match="certificate"):
        await notifier.deliver(env_of(settings), receiver, message(), [])


@pytest.mark.parametrize("notifier", [NOTIFIERS[name] for name in OVER_HTTP], ids=OVER_HTTP)
@pytest.mark.parametrize(("status", "final"), [(429, False), (503, False), (403, True)])
async def test_what_a_service_answers_says_whether_to_try_again(
    notifier: Notifier, services: Services, status: int, final: bool
) -> None:
    stub = {"pagerduty": services.pagerduty, "slack": services.slack, "alertmanager": services.alertmanager}
    stub[notifier.name].go_away(1, status, Retry_After="7")
    settings = services.settings(*NAMES.values())
    with pytest.raises(NotDeliveredError, match=str(status)) as caught:
        await notifier.deliver(env_of(settings), receiver_of(settings, notifier), message(), [])
    assert (caught.value.final, caught.value.asked_ms) == (final, 7_000)


@each
async def test_no_secret_is_in_what_is_said_when_it_fails(notifier: Notifier, services: Services) -> None:
    settings = services.settings(*NAMES.values(), email={"host": "127.0.0.1", "port": 1, "sender": "s@example.org"})
    for stub in (services.pagerduty, services.slack, services.alertmanager):
        stub.go_away(1, 403)
    with pytest.raises(NotDeliveredError) as caught:
        await notifier.deliver(env_of(settings), receiver_of(settings, notifier), message(), [])
    for secret in ("0123456789abcdef", "xoxb"):
        assert secret not in str(caught.value)
    for stub in (services.pagerduty, services.slack, services.alertmanager):
        stub.outage.clear()
