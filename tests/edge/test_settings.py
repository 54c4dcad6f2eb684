"""Settings: precedence, provenance, masking, and every mistake at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.edge import settings_doc
from engine.edge.settings_load import SettingsError, load, parse_set
from engine.edge.settings_view import entries

FLAG = ("--set kafka.partitions", "kafka.partitions", "3")
ENV = {"SENTINEL_KAFKA__PARTITIONS": "2"}
FILE = "instance: a\nkafka:\n  partitions: 1\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def _write(text: str, name: str = "sentinel.yml") -> Path:
        path = Path(name)
        path.write_text(text)
        return path

    return _write


@pytest.mark.parametrize(
    ("file", "env", "flags", "value", "origin"),
    [
        ("", {}, [], 4, "default"),
        (FILE, {}, [], 1, "file sentinel.yml:3"),
        (FILE, ENV, [], 2, "env SENTINEL_KAFKA__PARTITIONS"),
        (FILE, ENV, [FLAG], 3, "flag --set kafka.partitions"),
        ("", ENV, [], 2, "env SENTINEL_KAFKA__PARTITIONS"),
        ("kafka:\n", {}, [], 4, "default"),
    ],
)
def test_a_value_comes_from_the_highest_source_and_says_so(write, file, env, flags, value, origin):
    write(file)
    loaded = load(None, flags, env)
    assert loaded.settings.kafka.partitions == value
    assert str(loaded.origin(("kafka", "partitions"))) == origin


def test_the_file_is_the_one_named_then_the_environments_then_the_folders(write):
    write("instance: here")
    named = write("instance: named", "named.yml")
    from_env = write("instance: env", "env.yml")
    assert load(named, (), {"SENTINEL_CONFIG": str(from_env)}).settings.instance == "named"
    assert load(None, (), {"SENTINEL_CONFIG": str(from_env)}).settings.instance == "env"
    assert load(None, (), {}).settings.instance == "here"


@pytest.mark.parametrize(
    ("config", "env", "said"),
    [
        (Path("gone.yml"), {}, "--config gone.yml: there is no such file"),
        (None, {"SENTINEL_CONFIG": "gone.yml"}, "SENTINEL_CONFIG gone.yml: there is no such file"),
    ],
)
def test_a_named_file_must_exist(write, config, env, said):
    with pytest.raises(SettingsError, match=said):
        load(config, (), env)


def test_mappings_are_joined_over_sources_and_lists_replaced(write):
    write("executor:\n  allow_actions: [a, b]\n  databases: {x: postgresql://x/x}\n")
    env = {"SENTINEL_EXECUTOR__ALLOW_ACTIONS": "[c]", "SENTINEL_EXECUTOR__DATABASES__Y": "postgresql://y/y"}
    executor = load(None, (), env).settings.executor
    assert executor.allow_actions == ["c"]
    assert executor.databases == {"x": "postgresql://x/x", "y": "postgresql://y/y"}


def test_text_from_the_environment_stays_text_where_text_is_wanted(write):
    env = {
        "SENTINEL_KAFKA__SECURITY__SASL_PASSWORD": "0123",
        "SENTINEL_INSTANCE": "true",
        "SENTINEL_CONNECTORS__LOKI_PUSH__ENABLED": "false",
        "SENTINEL_KAFKA__SECURITY__CA_FILE": "",
    }
    settings = load(None, (), env).settings
    assert settings.kafka.security.sasl_password.get_secret_value() == "0123"
    assert settings.instance == "true"
    assert settings.connectors.loki_push.enabled is False
    assert settings.kafka.security.ca_file is None


def test_variables_that_kubernetes_makes_for_a_service_called_sentinel_are_not_settings(write):
    names = ["SENTINEL_SERVICE_HOST", "SENTINEL_SERVICE_PORT_HTTP", "SENTINEL_PORT", "SENTINEL_PORT_9560_TCP_ADDR"]
    assert load(None, (), dict.fromkeys(names, "tcp://10.0.0.1:9560")).settings.http.port == 9560


BROKEN = """\
instanc: a
kafka:
  partitions: []
  security: {protocol: SASL_SSL}
http:
  listen: "9560"
connectors:
  scrape:
    - {job: a, url: "ftp://x", interval_s: 5}
    - {job: b}
executor:
  hosts:
    openclaw: {url: "http://x", tokn: a}
"""


def test_every_mistake_of_a_file_is_reported_at_once_at_its_line_and_column(write):
    write(BROKEN)
    with pytest.raises(SettingsError) as caught:
        load(None, (), {"SENTINEL_LOG__LEVEL": "loud", "SENTINEL_FOO": "1"})
    assert str(caught.value).splitlines() == [
        "sentinel.yml:1:1: error: unknown key 'instanc'; did you mean 'instance'?",
        "sentinel.yml:3:15: error: kafka.partitions: input should be a valid integer",
        "sentinel.yml:4:13: error: kafka.security: protocol SASL_SSL needs sasl_username and sasl_password",
        "sentinel.yml:6:11: error: http.listen: must be host:port, such as 127.0.0.1:9560 (port 0 takes a free one)",
        "sentinel.yml:9:21: error: connectors.scrape.0.url: must be a URL that starts with http:// or https://",
        "sentinel.yml:10:7: error: connectors.scrape.1: give url, static_configs or file_sd_configs",
        "sentinel.yml:13:33: error: unknown key 'executor.hosts.openclaw.tokn'; did you mean 'token'?",
        "env SENTINEL_LOG__LEVEL: log.level: input should be 'debug', 'info', 'warning' or 'error'",
        "env SENTINEL_FOO: unknown key 'foo'; known here: state_dir, instance, log, kafka, database, http, connectors, "
        "rules, responder, executor, sinks, notify",
    ]


@pytest.mark.parametrize(
    ("file", "env", "flags", "said"),
    [
        ("[1]", {}, [], "sentinel.yml:1:1: error: must be a mapping of settings"),
        ("a: [", {}, [], "sentinel.yml:1:5: error: not valid YAML"),
        ("instance: a\ninstance: b", {}, [], "sentinel.yml:2:1: error: key 'instance' stands here twice"),
        ("---\ninstance: a\n---\ninstance: b", {}, [], "sentinel.yml:1:1: error: must be one YAML document"),
        ("kafka: 5", {"SENTINEL_KAFKA__URL": "x"}, [], "kafka: input should be a valid dictionary"),
        ("", {"SENTINEL_RULES__PATHS": "["}, [], "env SENTINEL_RULES__PATHS: not valid YAML or JSON"),
        ("", {}, [("--set a.b", "a.b", "1")], "flag --set a.b: unknown key 'a'"),
        ("log: {level: 5}", {}, [], "sentinel.yml:1:14: error: log.level: input should be 'debug'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, file, env, flags, said):
    write(file)
    with pytest.raises(SettingsError) as caught:
        load(None, flags, env)
    assert said in str(caught.value)


def test_a_set_flag_without_equals_is_refused():
    with pytest.raises(SettingsError, match="must be KEY=VALUE"):
        parse_set("kafka.url")


@pytest.mark.parametrize("password", ["pa/ss#wd", "pa?ss", "12/34", "pa ss"])
def test_a_password_that_is_not_encoded_is_refused_without_a_piece_of_it(password):
    with pytest.raises(SettingsError) as caught:
        load(None, [("--set database.url", "database.url", f"postgresql://u:{password}@h/db")], {})
    assert str(caught.value) == (
        "flag --set database.url: database.url: cannot be read: percent-encode the password "
        "(/ is %2F, # is %23, ? is %3F, @ is %40)"
    )


def test_secrets_and_passwords_inside_urls_are_masked(write):
    write(
        "database: {url: 'postgresql://sentinel:hunter2@db/sentinel'}\n"
        "kafka: {security: {protocol: SASL_SSL, sasl_username: u, sasl_password: hunter2}}\n"
        "executor:\n"
        "  hosts: {openclaw: {url: 'http://x', token: hunter2}, bridge: {url: 'http://y', token_env: ADMIN}}\n"
        "  databases: {aureus_os: 'postgresql://db/aureus?user=a&password=hunter2'}\n"
    )
    shown = {entry.key: entry.value for entry in entries(load(None, (), {}))}
    assert shown["database.url"] == "postgresql://sentinel:********@db/sentinel"
    assert shown["kafka.security.sasl_password"] == "********"
    assert shown["executor.hosts.openclaw.token"] == "********"
    assert shown["executor.hosts.bridge.token_env"] == "ADMIN"
    assert shown["executor.databases.aureus_os"] == "postgresql://db/aureus?user=a&password=********"
    assert "hunter2" not in repr(shown)


def test_a_host_takes_its_token_from_the_settings_or_from_the_variable_they_name(write):
    write(
        "executor: {hosts: {a: {url: 'http://a', token: t}, b: {url: 'http://b', token_env: T}, c: {url: 'http://c'}}}"
    )
    hosts = load(None, (), {}).settings.executor.hosts
    assert [host.bearer({"T": "u"}) for host in hosts.values()] == ["t", "u", ""]
    with pytest.raises(ValueError, match="token_env names T, which is not set"):
        hosts["b"].bearer({})


def test_the_settings_page_is_what_the_schema_says():
    page = Path(__file__).parents[2] / settings_doc.PAGE
    assert page.read_text(encoding="utf-8") == settings_doc.page(), "run python -m engine.edge.settings_doc"
