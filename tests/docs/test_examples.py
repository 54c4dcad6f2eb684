"""The examples are run: every YAML block is loaded by what reads such files, every Python block is executed.

The info string of a block says what it is: `yaml rules-promql`, `yaml settings` and so on. A YAML block of no known
kind is an error, so that none goes unread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from connectors import Connector, discover
from connectors._alertmanager import PATH as ALERTS_PATH
from connectors._targets import read_groups
from engine.actions import Action, load_actions
from engine.cli.app import app
from engine.core.expression import ExpressionError
from engine.core.rules import RuleGroup, parse_rules
from engine.edge.query_api import API_VERSION, QueryApi
from engine.edge.rules_api import RulesApi
from engine.edge.settings_load import load as load_settings
from engine.languages import LANGUAGES
from engine.loading import check_query
from engine.notifiers import Notifier
from engine.response.runbook import load_runbooks
from engine.response.runbooktest import run_all
from engine.response.steps import Runbook
from engine.ruletest import read_tests, run_tests
from tests.docs.pages import PROJECT, Piece, codes, fences, table

RULES = {"rules-promql": "promql", "rules-logql": "logql"}
KINDS = (
    *RULES,
    "rule-tests",
    "runbooks",
    "runbook-tests",
    "settings",
    "prometheus",
    "promtail",
    "grafana",
    "file-sd",
    "alerting",
)


def _blocks(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", fences(f"yaml {kind}"), ids=str)


def test_every_yaml_block_says_what_it_is() -> None:
    found = {str(block): block.info.removeprefix("yaml ") for block in fences() if block.info.startswith("yaml")}
    assert {place: kind for place, kind in found.items() if kind not in KINDS} == {}
    assert set(KINDS) == set(found.values())


@pytest.mark.parametrize("block", fences("yaml rules-promql", "yaml rules-logql"), ids=str)
def test_rules_load(block: Piece) -> None:
    assert _groups(block)


def _groups(block: Piece) -> list[RuleGroup]:
    language = RULES[block.info.removeprefix("yaml ")]
    groups, problems = parse_rules(block.text, str(block), LANGUAGES[language])
    assert problems == []
    return groups


@pytest.mark.parametrize(
    ("language", "refused", "expression"),
    [
        ("promql", "`info()`", "info(up)"),
        ("promql", "native histograms and their functions", "histogram_avg(x)"),
        ("promql", "`anchored`", "rate(x[5m] anchored)"),
        ("logql", "a negative `offset`", 'rate({a="b"}[1m] offset -1m)'),
        ("logql", "`xml`", 'rate({a="b"} | xml [1m])'),
        ("logql", "a log query without a metric around it", '{a="b"}'),
        ("logql", "`variants`", 'variants(rate({a="b"}[1m])) of ({a="b"}[1m])'),
        ("promql", "", "x @ 5 offset 1m + on (a) group_left rate(y[1h:1m])"),
        ("logql", "", 'sum(rate({a="b"} | label_format c="{{.d}}" | line_format "{{.c}}" [1m]))'),
        ("logql", "", 'sum by (c) (rate({a="b"} |= ip("10.0.0.0/8") | pattern "<c> <_>" | drop d [1m])) > 1'),
    ],
)
def test_what_the_table_calls_refused_is_refused_and_nothing_else(language: str, refused: str, expression: str) -> None:
    rows = {row[0].lower(): row[2] for row in table("docs/rules.md", "What is supported")}
    try:
        LANGUAGES[language](expression)
    except ExpressionError:
        assert refused, f"{expression} is refused, and docs/rules.md does not say so"
        assert refused in rows[language]
    else:
        assert not refused or refused not in rows[language], f"{refused} works now: move it in docs/rules.md"


@_blocks("rule-tests")
def test_rule_tests_pass_against_the_rules_of_their_page(block: Piece) -> None:
    tests, problems = read_tests(block.text, str(block))
    assert problems == []
    assert tests is not None
    rules = [other for other in fences("yaml rules-promql", "yaml rules-logql") if other.page == block.page]
    results = run_tests(tests, [group for other in rules for group in _groups(other)], LANGUAGES)
    assert [result for result in results if not result.passed] == []
    assert results


@_blocks("runbooks")
def test_runbooks_load(block: Piece) -> None:
    assert _runbooks(block)


@_blocks("runbook-tests")
def test_runbook_tests_pass_against_the_runbook_of_their_page(block: Piece) -> None:
    own = [one for other in fences("yaml runbooks") if other.page == block.page for one in _runbooks(other)]
    failures, courses = run_all(block.text, str(block), own, actions=load_actions())
    assert [str(failure) for failure in failures] == []
    assert courses


def _runbooks(block: Piece) -> list[Runbook]:
    runbooks, problems = load_runbooks(block.text, str(block), actions=load_actions(), check_query=check_query)
    assert problems == []
    return runbooks


@_blocks("settings")
def test_settings_load(block: Piece, tmp_path: Path) -> None:
    file = tmp_path / "sentinel.yml"
    file.write_text(block.text, encoding="utf-8")
    assert load_settings(file).file == file


@_blocks("prometheus")
def test_the_remote_write_address_is_one_we_serve(block: Piece) -> None:
    (target,) = yaml.safe_load(block.text)["remote_write"]
    assert urlsplit(target["url"]).path == _path("remote_write")


@_blocks("file-sd")
def test_target_files_are_read(block: Piece) -> None:
    groups = read_groups(block.text, str(block))
    assert all(group.targets and group.labels for group in groups)


@_blocks("alerting")
def test_prometheus_sends_alerts_where_we_take_them(block: Piece) -> None:
    (manager,) = yaml.safe_load(block.text)["alerting"]["alertmanagers"]
    prefix, version = manager.get("path_prefix", ""), manager.get("api_version", "v2")
    assert f"{prefix}/api/{version}/alerts" == ALERTS_PATH


@_blocks("promtail")
def test_the_push_address_is_one_we_serve(block: Piece) -> None:
    clients = yaml.safe_load(block.text)["clients"]
    assert {urlsplit(client["url"]).path for client in clients} == {_path("loki_push")}


@_blocks("grafana")
def test_the_data_source_is_the_deployments_and_asks_for_the_api_that_is_served(block: Piece) -> None:
    (source,) = yaml.safe_load(block.text)["datasources"]
    provisioned = yaml.safe_load((PROJECT / "deploy/grafana/provisioning/datasources/sentinel.yml").read_text())
    (own,) = [one for one in provisioned["datasources"] if one["uid"] == source["uid"]]
    assert {key: own[key] for key in source} == source
    assert source["jsonData"]["prometheusVersion"] == API_VERSION


def test_the_table_of_query_paths_is_what_is_served() -> None:
    shown = {code for row in table("docs/query.md", "What is served") for code in codes(row[0])}
    routes = [*QueryApi({}, lambda: 0).routes(), *RulesApi({}, {}).routes()]
    assert shown == {route.path.replace("{name}", "NAME") for route in routes}


def test_the_alloy_snippets_push_to_an_address_we_serve() -> None:
    blocks = fences("alloy")
    assert blocks
    assert all(f"{_path('loki_push')}?source=" in block.text for block in blocks)


def _path(connector: str) -> str:
    return next(one.path for one in discover() if one.name == connector)


@pytest.mark.parametrize("block", fences("python"), ids=str)
def test_python_examples_declare_what_the_page_says(block: Piece) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block.text, str(block), "exec", dont_inherit=True), names)  # noqa: S102  # our own page
    declared = {"CONNECTOR": Connector, "ACTION": Action, "NOTIFIER": Notifier}
    assert any(isinstance(names.get(name), kind) for name, kind in declared.items())


def test_the_examples_pass_sentinel_test_as_files(tmp_path: Path) -> None:
    names = {"rules-promql": "promql/openclaw", "rules-logql": "logql/bridge", "rule-tests": "tests/rules"}
    names |= {"runbooks": "runbooks/policy", "runbook-tests": "tests/runbooks"}
    for kind, name in names.items():
        for number, block in enumerate(fences(f"yaml {kind}")):
            file = tmp_path / f"{name}{number or ''}.yml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
    outcome = CliRunner().invoke(app, ["test", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    assert " 0 failed" in outcome.output
