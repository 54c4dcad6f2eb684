"""The deployment files say only what the program, its settings and its metrics know."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry

from engine.cli.app import app
from engine.edge import settings_load
from engine.edge.publisher import ConnectorMetrics
from engine.edge.settings import Settings
from engine.edge.telemetry import Telemetry
from engine.flow import ROLES
from examples.aureus.__main__ import parse_arguments
from tests.parts import require

ROOT = Path(__file__).parents[2]


def environment_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(value: Any) -> Any:
    """What Compose makes of `${NAME}`, `${NAME:-default}` and `${NAME:?message}` once .env is filled in."""
    if isinstance(value, dict):
        return {key: interpolate(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner) for inner in value]
    if not isinstance(value, str):
        return value
    known = environment_example()
    return re.sub(r"\$\{(\w+)(:[-?][^}]*)?\}", lambda found: known[found[1]] or "filled-in", value)


SOURCE = (ROOT / "docker-compose.yml").read_text()
COMPOSE = interpolate(yaml.safe_load(SOURCE))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = sorted(set(SERVICES) - {"keys"})
ROLE_SERVICES = sorted(name for name, service in SERVICES.items() if service.get("command", [""])[0] == "sentinel")


def settings_of(service: str) -> Settings:
    return settings_load.load(environ=SERVICES[service]["environment"]).settings


def test_every_role_is_a_service_of_its_own() -> None:
    assert sorted(ROLES) == ROLE_SERVICES
    assert all(SERVICES[name]["command"] == ["sentinel", "run", "--role", name] for name in ROLE_SERVICES)


@pytest.mark.parametrize("service", ROLE_SERVICES)
def test_the_command_of_a_role_is_one_the_program_takes(service: str) -> None:
    _, command, *arguments = SERVICES[service]["command"]
    group = typer.main.get_command(app)
    group.commands[command].make_context(command, list(arguments))  # type: ignore[attr-defined]  # it is a group


@pytest.mark.parametrize("service", ROLE_SERVICES)
def test_every_setting_of_a_role_is_one_the_program_has(service: str) -> None:
    settings = settings_of(service)
    assert settings.kafka.url == "kafka://kafka:9092"
    assert bool(settings.database.url) == next(role.database for role in ROLES.values() if role.name == service)


def test_the_stand_in_is_started_with_arguments_that_it_takes() -> None:
    _, _, module, *arguments = SERVICES["aureus"]["command"]
    assert module == "examples.aureus"
    assert parse_arguments(arguments).port_base == 8080


def test_only_the_executor_and_the_stand_in_hold_the_admin_token() -> None:
    holders = {name for name, service in SERVICES.items() if "AUREUS_ADMIN_TOKEN" in str(service.get("environment"))}
    assert holders == {"aureus", "executor"}


def test_only_the_responder_sees_the_private_key_and_only_the_executor_trusts_its_public_half() -> None:
    mounts = {name: str(service.get("volumes", [])) for name, service in SERVICES.items()}
    assert {name for name, mounted in mounts.items() if "keys-private" in mounted} == {"keys", "responder"}
    assert {name for name, mounted in mounts.items() if "keys-public" in mounted} == {"keys", "executor"}
    assert str(settings_of("responder").responder.private_key_file) == "/keys/private/signing.pem"
    assert [str(file) for file in settings_of("executor").executor.public_keys] == ["/keys/public/signing.pub.pem"]


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_every_service_that_stays_has_a_health_check(service: str) -> None:
    check = SERVICES[service]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


def test_a_service_waits_for_the_health_of_what_it_depends_on() -> None:
    for service in SERVICES.values():
        for other, wait in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other == "keys" else "service_healthy"
            assert wait == {"condition": wanted}
            assert other in SERVICES


def test_published_ports_are_distinct_and_on_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_every_image_has_a_full_version() -> None:
    base = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images = [service["image"] for service in SERVICES.values()] + base
    assert [image for image in images if not re.search(r":v?\d+\.\d+", image)] == []


def test_every_secret_comes_from_the_environment_file_and_has_no_value_there() -> None:
    wanted = set(re.findall(r"\$\{(\w+)", SOURCE))
    example = environment_example()
    assert wanted == set(example)
    assert all(not value for name, value in example.items() if name.endswith(("_PASSWORD", "_TOKEN")))


def test_every_named_volume_is_declared_and_every_mounted_file_exists() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_the_dashboard_asks_only_for_metrics_that_sentinel_has() -> None:
    telemetry = Telemetry(process_metrics=False)
    ConnectorMetrics(telemetry.registry, telemetry.drops)
    known = known_names(telemetry.registry)
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/sentinel.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"sentinel_\w+", target["expr"])
    }
    assert asked
    assert asked <= known


def known_names(registry: CollectorRegistry) -> set[str]:
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {metric.name + suffix for metric in registry.collect() for suffix in suffixes[metric.type]}


@pytest.mark.real
def test_promtool_accepts_the_prometheus_configuration() -> None:
    promtool = require("prometheus") / "promtool"
    checked = subprocess.run(  # noqa: S603  # our part, our file
        [promtool, "check", "config", ROOT / "deploy/prometheus.yml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
