"""The JSON Schema of runbook files takes what the reader takes, knows the keys that it knows, and sees mistakes."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from engine.actions import load_actions
from engine.cli.app import app
from engine.response.runbook import load_runbooks
from engine.response.runbook_schema import schema
from tests.docs.pages import PROJECT, fences
from tests.response.test_runbook import HEAD

SCHEMA = schema(load_actions())
VALIDATOR = Draft202012Validator(SCHEMA)
SHIPPED = [file.read_text() for file in sorted((PROJECT / "rules" / "runbooks").glob("*.yml"))]
SHIPPED += [block.text for block in fences("yaml runbooks")]


def wrong(data: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in VALIDATOR.iter_errors(data)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_published_file_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["schema", "runbooks"])
    assert printed.exit_code == 0
    assert (PROJECT / "docs" / "runbook.schema.json").read_text() == printed.output, "run `make docs`"


@pytest.mark.parametrize("text", SHIPPED)
def test_every_runbook_that_we_ship_or_show_is_valid(text: str) -> None:
    assert wrong(yaml.safe_load(text)) == []


BOOK = yaml.safe_load(
    HEAD.replace("    steps:", "    explains: [{match: [a=b], equal: [namespace]}]\n    steps:")
    + """\
      - name: look
        investigate: {logql: {query: '{app=$app}', params: {app: labels.app}, since: 15m, limit: 5}, on_failure: end}
      - name: pods
        investigate: {kubernetes: {read: pods, target: 'a/deployment/{{ labels.app }}'}, timeout: 3s, max_rows: 5}
      - name: choose
        decide: [{if: size(look.rows) > 0, then: scale, because: x}, {else: ask}]
      - name: scale
        act: {action: kubernetes.scale, target: a/deployment/b, params: {by: {cel: size(pods.rows)}, ceiling: 5}}
      - name: ask
        ask:
          action: http.request
          target: web
          question: sure?
          params: {method: POST, path: '/{{ labels.app | segment }}', json: {a: [1, {b: '{{ labels.app }}'}]}}
      - {name: pause, wait: 30s}
      - {name: check, verify: {stabilisation: 0s, investigate: {promql: {query: up}}, expect: true, on_failure: told}}
      - {name: plain, verify: }
      - {name: note, notify: {text: hello}, next: end}
      - {name: told, escalate: {text: hello, to: [a, b]}}
"""
)


def test_every_kind_of_step_is_valid() -> None:
    assert wrong(BOOK) == []


def changed(path: str, value: Any) -> Any:
    """The runbook with something else at a place; `...` takes it away."""
    data = deepcopy(BOOK)
    here = data["runbooks"][0]
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in way:
        here = here[part]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("prioritee", "P2"),
        ("priority", "P7"),
        ("priority", {"critical": "P0"}),
        ("match", ...),
        ("escalation", []),
        ("limits", {"cooldown": "soon"}),
        ("limits", {"budget_per_hour": 0}),
        ("steps/0/name", "not a name"),
        ("steps/0/wait", "3s"),  # two kinds in one step
        ("steps/0/dance", {}),
        ("steps/0/investigate/logql", ...),  # no source
        ("steps/0/investigate/promql", {"query": "up"}),  # two sources
        ("steps/0/investigate/logql/query", "{app='{{ labels.app }}'}"),
        ("steps/0/investigate/logql/params", ["labels.app"]),
        ("steps/0/investigate/max_rows", 5_000),
        ("steps/1/investigate/kubernetes/read", "secrets"),
        ("steps/1/investigate/kubernetes/target", "a/secret/b"),
        ("steps/1/investigate/kubernetes/tail", 5),
        ("steps/2/decide", [{"if": "true", "then": "scale"}]),  # no else
        ("steps/2/decide/0/then", ...),
        ("steps/2/next", "ask"),
        ("steps/3/act/action", "kubernetes.grow"),
        ("steps/3/act/target", "a/pod/b"),
        ("steps/3/act/mode", "yolo"),
        ("steps/3/act/question", "sure?"),
        ("steps/3/act/params", ...),
        ("steps/3/act/params/ceiling", ...),
        ("steps/3/act/params/ceiling", "five"),
        ("steps/3/act/params/ceiling", 0),
        ("steps/3/act/params/replica", 5),
        ("steps/4/ask/question", ...),
        ("steps/4/ask/mode", "auto"),
        ("steps/4/ask/params/method", "LOOK"),
        ("steps/5/wait", "soon"),
        ("steps/6/verify/expected", "true"),
    ],
)
def test_a_typical_mistake_is_seen(path: str, value: Any) -> None:
    data = changed(path, value)
    assert wrong(data) != []
    assert load_runbooks(yaml.safe_dump(data), "book.yml", actions=load_actions())[1] != []  # as the reader sees it


@pytest.mark.parametrize(
    ("path", "defined"),
    [
        ("", "runbook"),
        ("limits", "runbook/properties/limits"),
        ("explains/0", "runbook/properties/explains/items"),
        ("escalation/0", "levels/items"),
        ("steps/0/investigate", "investigate"),
        ("steps/0/investigate/logql", "investigate/properties/logql"),
        ("steps/1/investigate/kubernetes", "investigate/properties/kubernetes"),
        ("steps/3/act", "act"),
        ("steps/3/act/params", "params.kubernetes.scale"),
        ("steps/4/ask", "ask"),
        ("steps/6/verify", "step/properties/verify/anyOf/1"),
        ("steps/6/verify/investigate/promql", "investigate/properties/promql"),
        ("steps/8/notify", "step/properties/notify"),
        ("steps/9/escalate", "step/properties/escalate"),
    ],
)
def test_it_knows_the_very_keys_that_the_reader_knows(path: str, defined: str) -> None:
    data = changed("limits", {}) if path == "limits" else deepcopy(BOOK)
    here = data["runbooks"][0]
    for part in filter(None, path.split("/")):
        here = here[int(part) if part.isdigit() else part]
    here["zzz"] = 1
    _, problems = load_runbooks(yaml.safe_dump(data), "book.yml", actions=load_actions())
    known = next(one.message for one in problems if "'zzz'" in one.message).partition("known: ")[2].split(", ")
    place: Any = SCHEMA["$defs"]
    for part in defined.split("/"):
        place = place[int(part) if part.isdigit() else part]
    assert sorted(place["properties"]) == sorted(known)


def test_the_kinds_of_steps_are_those_of_the_reader() -> None:
    _, problems = load_runbooks(HEAD + "      - {name: a, zzz: 1}\n", "book.yml", actions=load_actions())
    known = re.findall(r"\w+", problems[0].message.partition("known: ")[2])
    assert sorted({"name", "next", *known}) == sorted(SCHEMA["$defs"]["step"]["properties"])


def test_a_file_names_its_schema_for_editors(tmp_path: Path) -> None:
    text = (
        "# yaml-language-server: $schema=../../docs/runbook.schema.json\ndefaults: {escalation: [{to: a}]}\n"
        + SHIPPED[0]
    )
    runbooks, problems = load_runbooks(text, "book.yml", actions=load_actions())
    assert (len(runbooks), problems) == (1, [])
