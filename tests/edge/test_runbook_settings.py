"""What runbooks want, held against the settings: each thing that these do not name is said, at its step."""

from __future__ import annotations

from typing import Any

import pytest

from engine.actions import load_actions
from engine.edge.runbook_settings import _LISTS, unconfigured
from engine.edge.settings import ExecutorSettings, Settings
from engine.response.runbook import load_runbooks

HEAD = """\
runbooks:
  - name: Book
    match: ['alertname="A"']
    priority: P2
    escalation: [{to: on-call}]
    steps:
"""
DATABASE = "postgresql://reader@db/app"
HTTP = "act: {action: http.request, target: TARGET, params: {method: POST, path: /, check: {path: /, expect: 'true'}}}"
SCALE = "act: {action: kubernetes.scale, target: TARGET, params: {by: 1, ceiling: 5}}"
IDLE = "act: {action: postgres.terminate_idle, target: TARGET, params: {idle_minutes: 10, roles: [app]}}"


def said(step: str, target: str, **tree: Any) -> list[str]:
    text = HEAD + f"      - name: do\n        {step.replace('TARGET', target)}\n      - {{name: end_, verify: {{}}}}\n"
    runbooks, problems = load_runbooks(text, "book.yml", actions=load_actions())
    assert problems == []
    found = list(unconfigured(runbooks, Settings.model_validate(tree), load_actions()))
    assert all(str(one).startswith("book.yml:7:15: warning: step do: ") for one in found)
    return [one.message.removeprefix("step do: ") for one in found]


@pytest.mark.parametrize(
    ("step", "target", "tree", "expected"),
    [
        (
            HTTP,
            "openclaw",
            {},
            [
                "the action http.request is not in executor.allow_actions, so it is refused",
                "'openclaw' is not in executor.hosts, so what acts there is refused",
            ],
        ),
        (
            HTTP,
            "openclaw",
            {"executor": {"allow_actions": ["http.request"], "hosts": {"openclaw": {"url": "http://x"}}}},
            [],
        ),
        (
            IDLE,
            "main",
            {"executor": {"allow_actions": ["postgres.terminate_idle"], "databases": {"other": DATABASE}}},
            ["'main' is not in executor.databases, so what acts there is refused"],
        ),
        (
            SCALE,
            "aureus/deployment/app",
            {"executor": {"allow_actions": ["kubernetes.scale"], "namespaces": ["shop"]}},
            ["'aureus' is not in executor.namespaces, so what acts there is refused"],
        ),
        (  # which namespace it is, is seen when the alert comes
            SCALE,
            "'{{ labels.namespace }}/deployment/app'",
            {"executor": {"allow_actions": ["kubernetes.scale"], "namespaces": ["shop"]}},
            [],
        ),
        (
            "act: {action: compose.restart, target: TARGET}",
            "aureus/openclaw",
            {"executor": {"allow_actions": ["compose.restart"], "compose": {"shop": {"files": ["/a.yml"]}}}},
            ["'aureus' is not in executor.compose, so what acts there is refused"],
        ),
        (
            "act: {action: kms.rotate_signing_key, target: TARGET}",
            "bridge",
            {"executor": {"allow_actions": ["kms.rotate_signing_key"]}},
            ["'bridge' is not in executor.kms, so what acts there is refused"],
        ),
        (
            "investigate: {postgres: {database: TARGET, query: select 1}}",
            "main",
            {"executor": {"databases": {"main": DATABASE}}},
            ["'main' is not in responder.databases, so nothing is found out"],
        ),
        (
            "verify: {investigate: {postgres: {database: TARGET, query: select 1}}}",
            "main",
            {"responder": {"databases": {"main": DATABASE}}},
            [],
        ),
        (
            "investigate: {http: {host: TARGET, path: /}}",
            "web",
            {},
            ["'web' is not in responder.hosts, so nothing is found out"],
        ),
        (
            "investigate: {http: {host: {cel: labels.service}, path: /}}",
            "",
            {},
            ["responder.hosts is empty, so nothing is found out"],
        ),
        (
            "investigate: {http: {host: {cel: labels.service}, path: /}}",
            "",
            {"responder": {"hosts": {"web": {"url": "http://x"}}}},
            [],
        ),
        (
            "investigate: {logql: {query: '{a=\"b\"}'}}",
            "",
            {},
            ["no responder.loki is set, so nothing is found out"],
        ),
        ("investigate: {logql: {query: '{a=\"b\"}'}}", "", {"responder": {"loki": {"url": "http://loki"}}}, []),
        (
            "investigate: {kubernetes: {read: pods, target: TARGET}}",
            "aureus/deployment/app",
            {"executor": {"namespaces": ["aureus"]}},
            ["'aureus' is not in responder.namespaces, so nothing is found out"],
        ),
        (
            "investigate: {kubernetes: {read: pods, target: TARGET}}",
            "'{{ labels.namespace }}/deployment/app'",
            {},
            ["responder.namespaces is empty, so nothing is found out"],
        ),
        ("investigate: {promql: {query: up}}", "", {}, []),
    ],
)
def test_what_the_settings_do_not_name_is_said(
    step: str, target: str, tree: dict[str, Any], expected: list[str]
) -> None:
    assert said(step, target, **tree) == expected


def test_for_every_kind_of_target_there_is_a_setting() -> None:
    kinds = {action.target_kind for action in load_actions().values()}
    assert kinds == set(_LISTS)
    assert set(_LISTS.values()) <= set(ExecutorSettings.model_fields)


def test_what_many_steps_lack_is_said_once_at_the_first_of_them() -> None:
    steps = "".join(f"      - name: s{n}\n        {SCALE.replace('TARGET', 'aureus/deployment/a')}\n" for n in range(3))
    runbooks, problems = load_runbooks(
        f"{HEAD}{steps}      - {{name: end_, verify: {{}}}}\n", "book.yml", actions=load_actions()
    )
    assert problems == []
    assert [str(one) for one in unconfigured(runbooks, Settings(), load_actions())] == [
        "book.yml:7:15: warning: step s0 and 2 more: the action kubernetes.scale is not in executor.allow_actions, "
        "so it is refused",
        "book.yml:7:15: warning: step s0 and 2 more: 'aureus' is not in executor.namespaces, "
        "so what acts there is refused",
    ]
