"""Parts that come out of Debian's packages, of this machine's release or of a newer one; nothing is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from scripts.obtaining import UnavailableError, run

NEWER_DEBIAN = "forky"  # the first Debian with a Prometheus that sends remote write 2.0, and with Compose 2
POSTGRESQL_VERSION = "18"
DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_ALERTMANAGER_LAUNCHER = """#!/bin/sh
# Debian's Alertmanager reads /usr/share/prometheus/alertmanager/default.tmpl, wherever it was unpacked.
here=$(dirname "$(readlink -f "$0")")
exec unshare --user --map-root-user --mount sh -c \\
  'mount --bind "$1/../share" /usr/share && shift && exec "$@"' sh "$here" "$here/prometheus-alertmanager" "$@"
"""

_POSTGRESQL_LAUNCHER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
libraries=$here/../../../{libraries}
exec "$libraries/{loader}" --argv0 "$here/{name}" --library-path "$libraries" "$here/{name}.program" "$@"
"""


def obtain_prometheus(folder: Path) -> None:
    """Prometheus and promtool from Debian's package."""
    _obtain_debian("prometheus", "prometheus", folder)


def obtain_alertmanager(folder: Path) -> None:
    """Alertmanager from Debian's package, and a script that shows it its templates where it was built to look."""
    _obtain_debian("prometheus-alertmanager", "prometheus-alertmanager", folder)
    launcher = folder / "usr" / "bin" / "alertmanager"
    launcher.write_text(_ALERTMANAGER_LAUNCHER, encoding="utf-8")
    launcher.chmod(0o755)
    run([str(launcher), "--version"], folder)


def _obtain_debian(package: str, program: str, folder: Path) -> None:
    """The programs of a Debian package, unpacked without installing it; these need only libc."""
    for tool in ("apt-get", "dpkg"):
        if not shutil.which(tool):
            raise UnavailableError(f"there is no {tool}: this way needs Debian; or put {program} on PATH")
    _unpack(package, folder)
    run([f"usr/bin/{program}", "--version"], folder)


def _unpack(package: str, folder: Path) -> None:
    """What a package of this machine's release installs; nothing is installed."""
    try:
        run(["apt-get", "download", package], folder)
    except UnavailableError:
        if os.geteuid() != 0:
            raise
        run(["apt-get", "update"], folder)  # a fresh container has no package lists
        run(["apt-get", "download", package], folder)
    _unpack_file(package, folder)


def _unpack_file(package: str, folder: Path) -> None:
    (file,) = folder.glob(f"{package}_*.deb")
    run(["dpkg", "-x", file.name, "."], folder)
    file.unlink()


def _newer_debian(folder: Path) -> list[str]:
    """`apt-get` for a newer release, from the mirror that this machine uses; it believes that nothing is installed.

    Package lists and what is downloaded stay in the part's own folder: the machine's package manager never sees them.
    """
    if not shutil.which("dpkg"):
        raise UnavailableError("there is no dpkg: this way needs Debian; or put the program into the cache yourself")
    known = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Origin: Debian"], folder)
    mirrors = [line.split()[0] for line in known.splitlines() if line.endswith(" main")]
    if not mirrors:
        raise UnavailableError("this machine's package manager knows no mirror of Debian; `apt-get update` may tell it")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    source = f"deb [signed-by={DEBIAN_KEYRING}] {mirrors[0]} {NEWER_DEBIAN} main\n"
    (folder / "sources").write_text(source, encoding="utf-8")
    own = {
        "Dir::Etc::sourcelist": folder / "sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", *(f"-o{name}={value}" for name, value in own.items())]
    run([*apt, "update"], folder)
    return apt


def _obtain_newer_debian(packages: Sequence[str], folder: Path) -> None:
    """Packages of a newer release, unpacked."""
    run([*_newer_debian(folder), "download", *packages], folder)
    for package in packages:
        _unpack_file(package, folder)
    for name in ("lists", "cache"):
        shutil.rmtree(folder / name)


def obtain_prometheus_3(folder: Path) -> None:
    """The programs of the package in a newer release; they need only libc."""
    _obtain_newer_debian(["prometheus"], folder)
    version = run(["usr/bin/prometheus", "--version"], folder)
    if "version 3." not in version:
        raise UnavailableError(f"the newer release has no Prometheus 3 but {version.splitlines()[0]}")


def obtain_docker(folder: Path) -> None:
    """A Docker engine with its client, Compose as its plugin, and a busybox to make images of, in one folder.

    All of a newer release, which needs only an old libc, but for runc: that one is this machine's release's.
    """
    _obtain_newer_debian(["docker.io", "docker-cli", "docker-compose", "containerd", "busybox-static"], folder)
    _unpack("runc", folder)
    plugins = folder / "bin" / "cli-plugins"
    plugins.mkdir(parents=True)
    for program in (
        "bin/docker",
        "bin/containerd",
        "bin/containerd-shim-runc-v2",
        "bin/busybox",
        "sbin/dockerd",
        "sbin/runc",
    ):
        (folder / "usr" / program).rename(folder / "bin" / Path(program).name)
    (folder / "usr" / "libexec" / "docker" / "cli-plugins" / "docker-compose").rename(plugins / "docker-compose")
    shutil.rmtree(folder / "usr")
    for program in ("docker", "containerd", "dockerd", "runc", "cli-plugins/docker-compose"):
        run([f"bin/{program}", "--version"], folder)


def obtain_postgresql(folder: Path) -> None:
    """PostgreSQL with its contributed modules, from a newer Debian with all the libraries that it needs.

    Those are newer than this machine's, so the two programs are started by their own loader, in a script each.
    """
    package, programs = f"postgresql-{POSTGRESQL_VERSION}", folder / "usr/lib/postgresql" / POSTGRESQL_VERSION / "bin"
    run([*_newer_debian(folder), "-y", "--download-only", "--no-install-recommends", "install", package], folder)
    for file in (folder / "cache/archives").glob("*.deb"):
        run(["dpkg", "-x", str(file), "unpacked"], folder)
    (loader,) = (folder / "unpacked/usr/lib").glob("*/ld-linux*.so.*")
    for kept in ("lib/postgresql", "share/postgresql", f"lib/{loader.parent.name}"):
        (folder / "usr" / kept).parent.mkdir(parents=True, exist_ok=True)
        (folder / "unpacked/usr" / kept).rename(folder / "usr" / kept)
    for name in ("lists", "cache", "unpacked"):
        shutil.rmtree(folder / name)
    for name in ("postgres", "initdb"):
        (programs / name).rename(programs / f"{name}.program")
        launcher = _POSTGRESQL_LAUNCHER.format(libraries=loader.parent.name, loader=loader.name, name=name)
        (programs / name).write_text(launcher, encoding="utf-8")
        (programs / name).chmod(0o755)
        run([str(programs / name), "--version"], folder)
