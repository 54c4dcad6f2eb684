"""Parts come whole or not at all, once, and say why when they cannot be had."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import parts


def obtain_tool(folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "tool").write_text("tool")


def obtain_half(folder: Path) -> None:
    (folder / "bin").mkdir()
    raise parts.UnavailableError("the network went away")


def obtain_the_wrong_thing(folder: Path) -> None:
    (folder / "share").mkdir()


def refuse(folder: Path) -> None:
    raise AssertionError(f"obtained again into {folder}")


def test_a_part_is_obtained_once_and_found_afterwards(tmp_path: Path) -> None:
    folder = parts.get(parts.Part("tool", "1", "bin", obtain_tool), tmp_path / "cache")
    assert (folder / "tool").read_text() == "tool"
    assert parts.get(parts.Part("tool", "1", "bin", refuse), tmp_path / "cache") == folder
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["tool-1"]


def test_another_version_is_another_part(tmp_path: Path) -> None:
    first = parts.get(parts.Part("tool", "1", "bin", obtain_tool), tmp_path)
    assert parts.get(parts.Part("tool", "2", "bin", obtain_tool), tmp_path) != first


@pytest.mark.parametrize(
    ("obtain", "reason"),
    [(obtain_half, "the network went away"), (obtain_the_wrong_thing, "what was obtained has no bin")],
)
def test_a_part_that_cannot_be_had_leaves_nothing_but_the_reason(
    tmp_path: Path, obtain: Callable[[Path], None], reason: str
) -> None:
    with pytest.raises(parts.UnavailableError, match=reason):
        parts.get(parts.Part("tool", "1", "bin", obtain), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tool.reason.json"]
    told = json.loads((tmp_path / "tool.reason.json").read_text())
    assert (told["part"], told["version"], told["reason"]) == ("tool", "1", reason)
    assert reason in parts.missing_reason("tool", tmp_path)


def test_the_reason_goes_when_the_part_comes(tmp_path: Path) -> None:
    with pytest.raises(parts.UnavailableError):
        parts.get(parts.Part("tool", "1", "bin", obtain_half), tmp_path)
    parts.get(parts.Part("tool", "1", "bin", obtain_tool), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tool-1"]


def test_a_part_that_is_installed_is_not_obtained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert parts.get(parts.Part("tool", "1", "bin", refuse, ("tool",)), tmp_path / "cache") == tmp_path / "bin"
    with pytest.raises(AssertionError, match="obtained again"):
        parts.get(parts.Part("tool", "1", "bin", refuse, ("tool", "another-tool")), tmp_path / "cache")


@pytest.mark.parametrize("name", sorted(parts.PARTS))
def test_on_a_machine_without_the_tools_the_exit_status_is_3_with_a_line_for_each_part(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert parts.main(["get", name, "--cache", str(tmp_path)]) == parts.UNAVAILABLE
    assert "cannot be had: there is no" in capsys.readouterr().err
    assert parts.main(["--cache", str(tmp_path), "path", name]) == parts.UNAVAILABLE
    assert capsys.readouterr().out == ""


def test_the_reason_of_a_failed_command_is_its_error_line(tmp_path: Path) -> None:
    script = "print('lots of talk'); print('[ERROR] no such artifact'); print('more talk'); raise SystemExit(1)"
    with pytest.raises(parts.UnavailableError, match=r"failed with status 1: \[ERROR\] no such artifact"):
        parts.run([sys.executable, "-c", script], tmp_path)


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("AUREUS_PARTS", raising=False)
    assert parts.default_cache() == tmp_path / "xdg" / "aureus-sentinel" / "parts"
    monkeypatch.setenv("AUREUS_PARTS", str(tmp_path / "parts"))
    assert parts.default_cache() == tmp_path / "parts"


def test_the_module_that_loki_is_built_in_repeats_its_replacements_but_for_those_into_its_own_tree() -> None:
    own = """module github.com/grafana/loki/v3

go 1.26.5

require github.com/a/b v1.0.0

replace github.com/a/b => github.com/c/d v1.2.3

replace (
\tgithub.com/e/f => github.com/g/h v0.0.1
\tgithub.com/grafana/loki/pkg/push => ./pkg/push
)
"""
    found = parts.wrapper_module(own)
    assert "\ngo 1.26.5\n" in found
    assert f"require github.com/grafana/loki/v3 v{parts.LOKI_VERSION}\n" in found
    assert "\tgithub.com/a/b => github.com/c/d v1.2.3\n" in found
    assert "\tgithub.com/e/f => github.com/g/h v0.0.1\n" in found
    assert "./pkg/push" not in found


def test_a_machine_without_go_cannot_have_loki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(parts.UnavailableError, match="there is no go"):
        parts.obtain_loki(tmp_path)
