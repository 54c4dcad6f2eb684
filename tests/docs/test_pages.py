"""Links lead somewhere, files and modules that are named exist, and the pages fit the version and the flow."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable

import pytest

from engine import __version__, flow
from tests.docs.pages import PROJECT, Piece, anchors, codes, fences, inline_code, links, pages, table

_FILE = re.compile(r"(?:engine|connectors|examples|docs|rules|tests|scripts|deploy|benchmarks)/[\w./*-]*")
_MODULE = re.compile(r"(?:engine|examples)(?:\.\w+)+")


@pytest.mark.parametrize("link", links(), ids=str)
def test_a_link_leads_somewhere(link: Piece) -> None:
    path, _, anchor = link.text.partition("#")
    if re.match(r"[a-z]+:", link.text):
        assert link.text.startswith("https://"), link
        return
    target = (link.page.parent / path).resolve() if path else link.page
    assert target.exists(), f"{link}: there is no {link.text}"
    if anchor:
        assert anchor in anchors(target), f"{link}: {target.name} has no heading for #{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(link.page.parent / link.text.partition("#")[0]).resolve() for link in links()}
    assert [page for page in pages() if page.name != "README.md" and page not in reached] == []


@pytest.mark.parametrize("piece", [p for p in inline_code() if _FILE.fullmatch(p.text)], ids=lambda p: f"{p} {p.text}")
def test_a_file_or_folder_that_is_named_exists(piece: Piece) -> None:
    found = PROJECT.glob(piece.text) if "*" in piece.text else [PROJECT / piece.text]
    assert any(path.exists() for path in found), f"{piece}: there is no {piece.text}"


@pytest.mark.parametrize("piece", [p for p in inline_code() if _MODULE.match(p.text)], ids=lambda p: f"{p} {p.text}")
def test_a_dotted_name_of_ours_can_be_imported(piece: Piece) -> None:
    name = piece.text.partition("(")[0].partition(":")[0]
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)  # an AttributeError is the finding
        return
    pytest.fail(f"{piece}: {name} cannot be imported")


def test_the_reading_order_names_modules_and_each_once() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    order = text.split("<!-- reading-order -->")[1].split("<!-- /reading-order -->")[0]
    rows = [line.split(" | ") for line in order.splitlines() if re.match(r"\| \d", line)]
    modules = [codes(row[1])[0] for row in rows]
    assert [row[0].strip("| ") for row in rows] == [str(i + 1) for i in range(len(rows))]
    assert [module for module in modules if not (PROJECT / module).is_file()] == []
    assert len(set(modules)) == len(modules)


def test_the_changelog_has_this_version() -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_flow_picture_shows_every_topic_and_role() -> None:
    picture = next(piece.text for piece in fences("text") if "rule-inputs" in piece.text)
    wanted = _topics(flow.TOPICS) - {"dead-letter"} | set(flow.ROLES) - {"console"}
    assert {word for word in wanted if not re.search(rf"\b{word}\b", picture)} == set()


def test_the_table_of_topics_is_the_flows() -> None:
    shown = {name: row[1] for row in table("docs/operations.md", "Topics") for name in codes(row[0])}
    assert shown == {topic.name: topic.key for topic in flow.TOPICS if not topic.compacted}
    text = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [topic.name for topic in flow.TOPICS if topic.compacted and topic.name not in text] == []


def _topics(topics: Iterable[flow.Topic]) -> set[str]:
    """The names of the topics that messages flow through; a table's changelog is told of in a paragraph."""
    return {topic.name for topic in topics if not topic.compacted}


def test_the_table_of_privileges_is_the_flows() -> None:
    for row in table("docs/safety.md", "Least privilege"):
        role = flow.ROLES[row[0]]  # type: ignore[index]  # an unknown role is the finding
        reads, _, writes = row[1].partition("writes") if "writes" in row[1] else (row[1], "", "")
        assert _topics(role.writes) == set(codes(writes)), row[0]
        assert _topics(role.reads) == set(codes(reads)) or row[0] == "console"
        assert role.database == (row[2] != "none"), row[0]
    assert {row[0] for row in table("docs/safety.md", "Least privilege")} == set(flow.ROLES)
