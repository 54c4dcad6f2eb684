"""The documentation as data: fenced blocks, inline code, links, headings and table rows, each with its place.

Parsed as Markdown, so what the tests see is what a reader sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

PROJECT = Path(__file__).resolve().parents[2]
GENERATED = PROJECT / "docs" / "settings.md"
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Piece:
    """A piece of a page: its text, what kind it is (a fence's info string), and where it stands."""

    page: Path
    line: int
    text: str
    info: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def pages() -> list[Path]:
    """Every page that people wrote."""
    found = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]
    return [page for page in found if page != GENERATED]


@cache
def _tokens(page: Path) -> tuple[Token, ...]:
    return tuple(_PARSER.parse(page.read_text(encoding="utf-8")))


def fences(*infos: str) -> list[Piece]:
    """Fenced blocks, of all pages; only those with one of these info strings if any are given."""
    return [
        Piece(page, (token.map or [0])[0] + 1, token.content, token.info.strip())
        for page in pages()
        for token in _tokens(page)
        if token.type == "fence" and (not infos or token.info.strip() in infos)
    ]


def _inline(page: Path) -> Iterator[tuple[int, Token]]:
    for token in _tokens(page):
        if token.type == "inline":
            line = (token.map or [0])[0] + 1
            yield from ((line, child) for child in token.children or ())


def inline_code() -> list[Piece]:
    """Every `piece of code` in running text and tables."""
    return [
        Piece(page, line, token.content)
        for page in pages()
        for line, token in _inline(page)
        if token.type == "code_inline"
    ]


def links() -> list[Piece]:
    """The address of every link."""
    return [
        Piece(page, line, str(token.attrs["href"]))
        for page in pages()
        for line, token in _inline(page)
        if token.type == "link_open"
    ]


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings give, as the forges make them."""
    tokens = _PARSER.parse(page.read_text(encoding="utf-8"))
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading whose text begins so: cells as they are written, without the head."""
    lines = (PROJECT / page).read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(rf"#+ {re.escape(heading)}", line)]
    assert starts, f"{page} has no heading {heading!r}"
    rows: list[list[str]] = []
    for line in lines[starts[0] :]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
        elif rows:
            break
    return rows[2:]


def codes(cell: str) -> list[str]:
    """The pieces of code in a table's cell."""
    return re.findall(r"`([^`]+)`", cell)


def source_text() -> str:
    """The program's own source, as one text."""
    files = [*(PROJECT / "engine").rglob("*.py"), *(PROJECT / "connectors").glob("*.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(files))
