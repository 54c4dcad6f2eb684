"""A real Docker engine with Compose for tests, in namespaces of its own: what ends it ends all that it started.

It has no network: containers say `network_mode: none`. Its image is a busybox, `IMAGE`.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.parts import Program, require

IMAGE = "aureus/busybox:1"
_APPLETS = ("sh", "sleep", "test", "touch", "cat", "echo", "true", "false")
_COMMAND_TIMEOUT_S = 60.0
# A shell is the first process of the PID namespace, as somebody has to wait for orphans there.
_OWN_NAMESPACES = [
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-c",
    '"$@"; exit',
    "sh",
]


class DockerEngine:
    """One engine: `url` is where it listens, `environment` what a program needs to find its client and Compose."""

    def __init__(self, folder: Path) -> None:
        self._programs = require("docker")
        self._folder = folder
        self.url = f"unix://{folder / 'docker.sock'}"
        plugins = folder / "client" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(self._programs / "cli-plugins" / "docker-compose")

    @property
    def environment(self) -> Mapping[str, str]:
        """For a client of this engine; only `PATH` is also the machine's."""
        return {
            "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self._folder),
            "DOCKER_CONFIG": str(self._folder / "client"),
            "DOCKER_HOST": self.url,
        }

    def start(self) -> Program:
        """Start it; it is ready, and has the image, when this returns."""
        own = [
            f"--data-root={self._folder / 'data'}",
            f"--exec-root={self._folder / 'exec'}",
            f"--pidfile={self._folder / 'docker.pid'}",
            f"--host={self.url}",
            "--storage-driver=vfs",
            "--userland-proxy=false",
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"),
        ]
        command = [*_OWN_NAMESPACES, str(self._programs / "dockerd"), *own]
        running = Program(command, self._folder / "dockerd.log", self.environment)
        running.wait_until(self._answers, "dockerd")
        self.docker("import", "-", IMAGE, stdin=_image(self._programs / "busybox"))
        return running

    def docker(self, *arguments: str, stdin: bytes = b"") -> str:
        """What the client prints. Raises RuntimeError with what it complained of."""
        done = subprocess.run(  # noqa: S603  # our part
            [str(self._programs / "docker"), *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=_COMMAND_TIMEOUT_S,
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def compose(self, file: Path, *arguments: str) -> str:
        """What `docker compose` prints for a project's file."""
        return self.docker("compose", "--file", str(file), *arguments)

    def containers(self, project: str, service: str) -> list[dict[str, Any]]:
        """The containers of a service as the engine inspects them, by name."""
        labels = (f"com.docker.compose.project={project}", f"com.docker.compose.service={service}")
        found = self.docker("ps", "-aq", *(f"--filter=label={label}" for label in labels)).split()
        inspected: list[dict[str, Any]] = json.loads(self.docker("inspect", *found)) if found else []
        return sorted(inspected, key=lambda container: str(container["Name"]))

    def remove_all(self) -> None:
        """End and remove every container at once."""
        if found := self.docker("ps", "-aq").split():
            self.docker("rm", "--force", "--volumes", *found)

    def _answers(self) -> bool:
        try:
            self.docker("version")
        except RuntimeError:
            return False
        return True


def _image(busybox: Path) -> bytes:
    """The files of an image, as a tar: a static busybox, and a link for each of its programs."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as files:
        files.add(busybox, "bin/busybox")
        for name in _APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            files.addfile(link)
        for name in ("tmp", "proc", "dev", "sys", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            files.addfile(folder)
    return output.getvalue()


@contextmanager
def running_docker(folder: Path) -> Iterator[DockerEngine]:
    """An engine of its own, ready when yielded; skips the test where it is not there or this is not root.

    Everything it keeps lies in `folder`, which must be short: a socket's path has at most 107 bytes.
    """
    engine = DockerEngine(folder)
    if os.geteuid() != 0:
        pytest.skip("a Docker engine needs root")
    running = engine.start()
    try:
        yield engine
    finally:
        try:
            engine.remove_all()
        finally:
            _end(running)


def _end(running: Program) -> None:
    """End the first process of its namespace, with which the kernel ends all others, and wait until they are gone."""
    for first in psutil.Process(running.process.pid).children():
        first.kill()
    running.process.wait(_COMMAND_TIMEOUT_S)
