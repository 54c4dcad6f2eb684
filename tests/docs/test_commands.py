"""Every `sentinel ...` and `make ...` in the documentation can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from engine.cli.app import app
from tests.docs.pages import PROJECT, Piece, fences, inline_code

_PLACEHOLDERS = {"N": "7"}


def _lines() -> Iterator[Piece]:
    for fence in fences("sh"):
        for offset, line in enumerate(fence.text.splitlines(), 1):
            yield Piece(fence.page, fence.line + offset, line.removeprefix(".venv/bin/"))
    yield from (Piece(p.page, p.line, p.text.removeprefix(".venv/bin/")) for p in inline_code())


_TYPED = list(_lines())
_SENTINEL = [piece for piece in _TYPED if piece.text.startswith("sentinel ")]
_MAKE = [piece for piece in _TYPED if piece.text.startswith("make ")]


@pytest.mark.parametrize("piece", _SENTINEL, ids=lambda p: f"{p} {p.text}")
def test_a_command_exists_with_its_options(piece: Piece) -> None:
    words = [_PLACEHOLDERS.get(word, word) for word in shlex.split(piece.text)[1:]]
    command: Any = typer.main.get_command(app)
    name = "sentinel"
    while hasattr(command, "commands"):
        assert words, f"{piece}: {name} needs a command"
        name, *words = words
        assert name in command.commands, f"{piece}: there is no command {name}"
        command = command.commands[name]
    if words or not any(parameter.required for parameter in command.params):
        command.make_context(name, words)  # its error is the finding; running text may name a command alone


@pytest.mark.parametrize("piece", _MAKE, ids=lambda p: f"{p} {p.text}")
def test_a_make_target_exists(piece: Piece) -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in piece.text.split()[1:]:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{piece}: no target {target}"


def test_the_readme_starts_with_the_two_commands() -> None:
    first = next(fence for fence in fences("sh") if fence.page.name == "README.md")
    assert first.text.split("\n") == ["make demo", "make test", ""]


def test_every_command_is_told_of_somewhere() -> None:
    told = " ".join(piece.text for piece in _SENTINEL)
    commands: Any = typer.main.get_command(app)
    assert [name for name in commands.commands if not re.search(rf"\bsentinel {name}\b", told)] == []
