"""`sentinel config`, `run`, `keys`: what they print, word for word, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIG = """\
kafka:
  url: kafka://u:hunter2@broker:9092
executor:
  allow_actions: [http.request]
  hosts:
    bridge: {url: "http://bridge:8080", token: hunter2}
"""


def lines_with(text: str, *keys: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.split() and line.split()[0] in keys]


def test_config_shows_each_key_with_its_value_and_origin_and_no_secret(sentinel, monkeypatch):
    Path("sentinel.yml").write_text(CONFIG)
    monkeypatch.setenv("SENTINEL_KAFKA__PARTITIONS", "8")
    ran = sentinel("config", "--set", "log.level=debug")
    assert ran.code == 0
    assert lines_with(
        ran.out,
        "KEY",
        "state_dir",
        "log.level",
        "kafka.url",
        "kafka.partitions",
        "executor.allow_actions",
        "executor.hosts.bridge.url",
        "executor.hosts.bridge.token",
        "responder.hosts",
        "database.url",
    ) == [
        "KEY VALUE FROM",
        "state_dir var default",
        "log.level debug flag --set log.level",
        "kafka.url kafka://u:********@broker:9092 file sentinel.yml:2",
        "kafka.partitions 8 env SENTINEL_KAFKA__PARTITIONS",
        'database.url "" default',
        "responder.hosts {} default",
        "executor.allow_actions [http.request] file sentinel.yml:4",
        "executor.hosts.bridge.url http://bridge:8080 file sentinel.yml:6",
        "executor.hosts.bridge.token ******** file sentinel.yml:6",
    ]
    assert "hunter2" not in ran.out


def test_config_as_json_has_the_same_rows(sentinel):
    Path("sentinel.yml").write_text(CONFIG)
    rows = json.loads(sentinel("config", "--json").out)
    assert {"key": "kafka.partitions", "value": 4, "origin": "default"} in rows
    assert {"key": "executor.allow_actions", "value": ["http.request"], "origin": "file sentinel.yml:4"} in rows


def test_settings_that_cannot_be_used_are_all_shown_with_their_place(sentinel, monkeypatch):
    Path("sentinel.yml").write_text("kafka:\n  urll: x\nhttp: {listen: 9560}\n")
    monkeypatch.setenv("SENTINEL_LOG__LEVEL", "loud")
    ran = sentinel("config")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "sentinel: the settings cannot be used:",
        "sentinel.yml:2:3: error: unknown key 'kafka.urll'; did you mean 'url'?",
        " 2 |   urll: x",
        "   |   ^",
        "sentinel.yml:3:16: error: http.listen: input should be a valid string",
        " 3 | http: {listen: 9560}",
        "   |                ^",
        "env SENTINEL_LOG__LEVEL: log.level: input should be 'debug', 'info', 'warning' or 'error'",
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("config", "--config", "gone.yml"), "--config gone.yml: there is no such file"),
        (
            ("config", "--set", "kafka.url"),
            "--set kafka.url: must be KEY=VALUE, for example --set kafka.url=kafka://host:9092",
        ),
        (("run", "--listen", "9560"), "flag --listen: http.listen: must be host:port, such as 127.0.0.1:9560"),
        (("run", "--mode", "never"), "flag --mode: responder.mode: input should be 'observe', 'approve' or 'auto'"),
        (("run", "--role", "router,oracle"), "unknown role oracle; known are connectors, router, evaluator"),
        (("incidents",), "nothing runs with the state folder var and it holds no database; start `sentinel run`"),
        (("replay", "gone.bundle"), "gone.bundle: there is no such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_words_and_exits_2(sentinel, args, said):
    ran = sentinel(*args)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_wrong_database_url_is_a_clear_line_without_the_password(sentinel):
    ran = sentinel("incidents", "--set", "database.url=postgresql://u:hunter2@127.0.0.1:1/x")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "database.url" in ran.err
    assert "hunter2" not in ran.err


def test_a_key_pair_is_made_once_and_never_overwritten(sentinel):
    ran = sentinel("keys", "generate", "--output", "keys")
    assert ran.code == 0
    assert Path("keys/signing.pem").stat().st_mode & 0o777 == 0o600
    assert "responder.private_key_file" in ran.out
    again = sentinel("keys", "generate", "--output", "keys")
    assert (again.code, again.err) == (
        1,
        "sentinel: keys/signing.pem is there already; move it away first, executors may still trust it\n",
    )


def test_the_help_names_every_command_and_the_exit_codes(sentinel):
    ran = sentinel("--help")
    assert ran.code == 0
    for name in ("run", "check", "test", "incidents", "incident", "report", "approve", "deny", "approvals", "pause"):
        assert f"  {name} " in ran.out
    assert "Exit codes: 0 done" in ran.out
