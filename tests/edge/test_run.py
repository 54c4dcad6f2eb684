"""`sentinel run` that cannot start says why in one line and ends with 2."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from engine.edge.run import CANNOT_START, run
from engine.edge.settings import Settings
from tests.e2e.shop import start_roles, tree
from tests.parts import answers, free_ports


def refused(config: dict[str, Any], role: str) -> str:
    """The reason that is logged, once, when a process with this role does not start."""
    with structlog.testing.capture_logs() as logs:
        assert run(Settings.model_validate(config), [role]) == CANNOT_START  # type: ignore[list-item]  # a role's name
    [line] = [line for line in logs if line["event"] == "node.refused"]
    return str(line["reason"])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://sentinel:hush@127.0.0.1:1/sentinel", "no server answers there"),
        ("postgresql://sentinel:hush@nobody.invalid/sentinel", "'nobody.invalid' is not known"),
    ],
)
def test_a_database_that_is_not_there(tmp_path: Path, url: str, says: str) -> None:
    reason = refused(tree(tmp_path, url, "http://127.0.0.1:1"), "console")
    assert "database.url" in reason
    assert says in reason
    assert "hush" not in reason


def test_a_kafka_that_is_not_there(tmp_path: Path) -> None:
    reason = refused(tree(tmp_path, "", "http://127.0.0.1:1", "kafka://127.0.0.1:1"), "router")
    assert reason == "cannot reach Kafka at 127.0.0.1:1 (setting kafka.url): no broker answers there"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    config = tree(tmp_path, "", "http://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config["http"]["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "setting http.listen" in refused(config, "router")


def test_rules_with_errors(tmp_path: Path) -> None:
    config = tree(tmp_path, "", "http://127.0.0.1:1")
    (tmp_path / "rules/promql/queue.yml").write_text("groups: 5", encoding="utf-8")
    assert "`sentinel check` shows them" in refused(config, "router")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_in_good_order_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    config = tree(tmp_path, "", "http://127.0.0.1:1")
    [port] = free_ports(1)
    config["http"]["listen"] = f"127.0.0.1:{port}"
    program = start_roles("connectors", config, tmp_path)
    try:
        program.wait_until(lambda: answers(f"http://127.0.0.1:{port}/ready"), "the process")
        program.process.send_signal(number)
        assert program.process.wait(15) == 0
    finally:
        program.kill()


def test_the_command_line_ends_with_the_same_status(tmp_path: Path) -> None:
    program = start_roles("router", tree(tmp_path, "", "http://127.0.0.1:1", "kafka://127.0.0.1:1"), tmp_path)
    assert program.process.wait(30) == CANNOT_START
    assert "kafka.url" in program.log.read_text(encoding="utf-8")
