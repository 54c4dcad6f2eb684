"""Obtain the real programs that `make test-real` tests against, once, into a cache outside the repository.

Needs nothing but Python. Each part comes whole or not at all: it is built in a temporary folder that is renamed only
when the program has answered. A part that cannot be had here leaves its reason in `NAME.reason.json`, from which the
tests that need it say why they are skipped.

    python scripts/parts.py get kafka prometheus    # exit status 3 when one of them cannot be had
    python scripts/parts.py status
    python scripts/parts.py path kafka              # the folder with its programs or jars

The cache is `--cache`, else $AUREUS_PARTS, else `aureus-sentinel/parts` in the user's cache folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

if not __package__:  # run as a file: what stands beside it is found from the repository
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.debian_parts import (
    NEWER_DEBIAN,
    POSTGRESQL_VERSION,
    obtain_alertmanager,
    obtain_docker,
    obtain_postgresql,
    obtain_prometheus,
    obtain_prometheus_3,
)
from scripts.obtaining import UnavailableError, run

KAFKA_VERSION = "4.1.1"
LOKI_VERSION = "3.7.8"
LOKI_MODULE = "github.com/grafana/loki/v3"
KUBERNETES_VERSION = "1.36.3"
ETCD_VERSION = "3.6.16"  # the line whose client this Kubernetes is built with
SLF4J_VERSION = "1.7.36"  # the slf4j API that this Kafka is built with
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
JAVA_OLDEST = 17
UNAVAILABLE = 3

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>aureus-sentinel</groupId><artifactId>kafka-part</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{SLF4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True)
class Part:
    """A program to obtain: `obtain` fills an empty folder, and what is used lies in its subfolder `programs`."""

    name: str
    version: str
    programs: str
    obtain: Callable[[Path], None]
    executables: tuple[str, ...] = ()  # with all of these on PATH, nothing needs to be obtained

    def folder(self, cache: Path) -> Path:
        """Where the part lies when it has been obtained."""
        return cache / f"{self.name}-{self.version}"

    def installed(self) -> Path | None:
        """The folder of the executables, when the machine has them already."""
        found = [shutil.which(executable) for executable in self.executables]
        return Path(found[0]).parent if found and found[0] and all(found) else None

    def find(self, cache: Path) -> Path | None:
        """The folder with the programs or jars; None when the part is neither installed nor in the cache."""
        programs = self.folder(cache) / self.programs
        return self.installed() or (programs if programs.is_dir() else None)


def obtain_kafka(folder: Path) -> None:
    """Kafka's jars and what they need, by Maven; checked by letting its storage tool make an id."""
    version = re.search(r'version "(\d+)', run(["java", "-version"], folder))
    if not version or int(version[1]) < JAVA_OLDEST:
        raise UnavailableError(f"Kafka {KAFKA_VERSION} needs Java {JAVA_OLDEST} or newer")
    (folder / "pom.xml").write_text(_POM, encoding="utf-8")
    run(["mvn", "-q", "-B", MAVEN_COPY, f"-DoutputDirectory={folder / 'libs'}", "-DincludeScope=runtime"], folder)
    run(["java", "-cp", f"{folder / 'libs'}/*", "kafka.tools.StorageTool", "random-uuid"], folder)


def obtain_loki(folder: Path) -> None:
    """Loki, built from its Go module: a module of our own that requires it and repeats its replacements.

    Go heeds `replace` lines of the main module only. Those that point into Loki's own tree are for its developers. It
    takes a quarter of an hour on two cores, and some 3 GB in Go's caches.
    """
    if not shutil.which("go"):
        raise UnavailableError("there is no go: Loki is built from its Go module; or put loki on PATH")
    module = folder / "module"
    module.mkdir()
    told = json.loads(run(["go", "mod", "download", "-json", f"{LOKI_MODULE}@v{LOKI_VERSION}"], folder))
    own = Path(told["GoMod"]).read_text(encoding="utf-8")
    (module / "go.mod").write_text(wrapper_module(own), encoding="utf-8")
    tools = f'//go:build tools\n\npackage tools\n\nimport _ "{LOKI_MODULE}/cmd/loki"\n'
    (module / "tools.go").write_text(tools, encoding="utf-8")
    run(["go", "mod", "tidy", "-e"], module)
    build = ["go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / "bin" / "loki")]
    run([*build, f"{LOKI_MODULE}/cmd/loki"], module)
    run([str(folder / "bin" / "loki"), "--version"], folder)
    shutil.rmtree(module)


def wrapper_module(go_mod: str) -> str:
    """A `go.mod` that requires Loki as its own `go.mod` wants it."""
    (go_line,) = re.findall(r"^go .*$", go_mod, re.MULTILINE)
    blocks = re.findall(r"^replace\s*\((.*?)^\)", go_mod, re.MULTILINE | re.DOTALL)
    single = re.findall(r"^replace\s+([^(\s].*)$", go_mod, re.MULTILINE)
    lines = [line.strip() for line in "\n".join([*blocks, *single]).splitlines()]
    kept = [line for line in lines if "=>" in line and "=> ." not in line]
    replaced = "".join(f"\t{line}\n" for line in kept)
    return f"module lokipart\n\n{go_line}\n\nrequire {LOKI_MODULE} v{LOKI_VERSION}\n\nreplace (\n{replaced})\n"


def obtain_kubernetes(folder: Path) -> None:
    """kube-apiserver, kube-controller-manager and etcd, built from their Go modules: some ten minutes on two cores.

    The module k8s.io/kubernetes replaces its staging modules by folders that a download does not hold; their releases
    have the same number with a 0 at its head.
    """
    kubernetes, etcd = "k8s.io/kubernetes", "go.etcd.io/etcd/server/v3"
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES_VERSION}"
    downloaded = run(["go", "mod", "download", "-json", f"{kubernetes}@v{KUBERNETES_VERSION}"], folder)
    module = Path(json.loads(downloaded[downloaded.index("{") :])["GoMod"]).read_text(encoding="utf-8")
    staging = re.findall(r"^\t(k8s\.io/\S+) => \./staging/", module, re.MULTILINE)
    release = f"v0.{KUBERNETES_VERSION.partition('.')[2]}"
    replaced = "".join(f"replace {name} => {name} {release}\n" for name in staging)
    head = "".join(re.findall(r"^(?:go|godebug) .*\n", module, re.MULTILINE))
    sources = folder / "kubernetes"
    sources.mkdir()
    wrapper = f"module part\n{head}require {kubernetes} v{KUBERNETES_VERSION}\n{replaced}"
    (sources / "go.mod").write_text(wrapper, encoding="utf-8")
    for program in ("kube-apiserver", "kube-controller-manager"):
        _go_build(sources, f"{kubernetes}/cmd/{program}", folder / "bin" / program, flags)
    sources = folder / "etcd"
    sources.mkdir()
    (sources / "go.mod").write_text(f"module part\n{head}require {etcd} v{ETCD_VERSION}\n", encoding="utf-8")
    _go_build(sources, etcd, folder / "bin" / "etcd", "-s -w")
    for program in ("kube-apiserver", "kube-controller-manager", "etcd"):
        run([f"bin/{program}", "--version"], folder)


def _go_build(module: Path, package: str, program: Path, flags: str) -> None:
    run(["go", "build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", str(program), package], module)


PARTS = {
    part.name: part
    for part in (
        Part("kafka", KAFKA_VERSION, "libs", obtain_kafka),
        Part("prometheus", "debian", "usr/bin", obtain_prometheus, ("prometheus", "promtool")),
        Part("alertmanager", "debian", "usr/bin", obtain_alertmanager, ("prometheus-alertmanager",)),
        Part("prometheus-3", NEWER_DEBIAN, "usr/bin", obtain_prometheus_3),
        Part("docker", NEWER_DEBIAN, "bin", obtain_docker),
        Part("postgresql", POSTGRESQL_VERSION, f"usr/lib/postgresql/{POSTGRESQL_VERSION}/bin", obtain_postgresql),
        Part("loki", LOKI_VERSION, "bin", obtain_loki, ("loki",)),
        Part(
            "kubernetes",
            KUBERNETES_VERSION,
            "bin",
            obtain_kubernetes,
            ("kube-apiserver", "kube-controller-manager", "etcd"),
        ),
    )
}


def default_cache() -> Path:
    """The cache folder when no flag names one."""
    home_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AUREUS_PARTS") or Path(home_cache) / "aureus-sentinel" / "parts").absolute()


def reason_file(name: str, cache: Path) -> Path:
    """Where it is written why a part could not be had."""
    return cache / f"{name}.reason.json"


def missing_reason(name: str, cache: Path) -> str:
    """One line on why the part is not there, and what to do."""
    try:
        told = json.loads(reason_file(name, cache).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{name} has not been obtained; `python scripts/parts.py get {name}` does"
    return f"{name} could not be had ({told['time']}): {told['reason']}"


def get(part: Part, cache: Path) -> Path:
    """The part's folder of programs, obtained now if need be. Raises UnavailableError, also noted in the cache."""
    if found := part.find(cache):
        return found
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{part.name}-", dir=cache, ignore_cleanup_errors=True) as temporary:
            built = Path(temporary) / "part"
            built.mkdir()
            part.obtain(built)
            if not (built / part.programs).is_dir():
                raise UnavailableError(f"what was obtained has no {part.programs}")
            if not part.folder(cache).exists():  # else another process was faster
                built.rename(part.folder(cache))
    except UnavailableError as error:
        told = {"part": part.name, "version": part.version, "reason": str(error)}
        told["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        reason_file(part.name, cache).write_text(json.dumps(told) + "\n", encoding="utf-8")
        raise
    reason_file(part.name, cache).unlink(missing_ok=True)
    return part.folder(cache) / part.programs


def _get_all(names: list[str], cache: Path) -> int:
    status = 0
    for name in names:
        part = PARTS[name]
        started = time.monotonic()
        if not part.find(cache):
            print(f"{name} {part.version}: obtaining...", file=sys.stderr, flush=True)
        try:
            folder = get(part, cache)
        except UnavailableError as error:
            print(f"{name} {part.version}: cannot be had: {error}", file=sys.stderr)
            status = UNAVAILABLE
        else:
            print(f"{name} {part.version}: ready after {time.monotonic() - started:.1f} s in {folder}", file=sys.stderr)
    return status


def _path(name: str, cache: Path) -> int:
    found = PARTS[name].find(cache)
    print(found or missing_reason(name, cache), file=sys.stdout if found else sys.stderr)
    return 0 if found else UNAVAILABLE


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Obtain the real programs that `make test-real` tests against.")
    parser.add_argument("--cache", type=Path, help="cache folder")
    commands = parser.add_subparsers(dest="command", required=True)
    getter = commands.add_parser("get", help="obtain parts that are not there yet")
    getter.add_argument("names", nargs="+", choices=PARTS, metavar="NAME")
    getter.add_argument("--cache", type=Path, default=argparse.SUPPRESS, help="cache folder")
    commands.add_parser("status", help="say where each part is, or why it is not")
    pather = commands.add_parser("path", help="print the folder with a part's programs or jars")
    pather.add_argument("name", choices=PARTS, metavar="NAME")
    chosen = parser.parse_args(arguments)
    cache = chosen.cache.absolute() if chosen.cache else default_cache()
    if chosen.command == "get":
        return _get_all(chosen.names, cache)
    if chosen.command == "path":
        return _path(chosen.name, cache)
    for name, part in PARTS.items():
        print(f"{name} {part.version}: {part.find(cache) or missing_reason(name, cache)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
