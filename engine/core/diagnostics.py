"""Problems in files people write: what is wrong, where, and what to do.

A check never prints and never stops at the first mistake: it returns every `Problem` of a file at once.
"""

from __future__ import annotations

from typing import Any, Literal

import yaml
from msgspec import Struct

Path = tuple[str | int, ...]


class Problem(Struct, frozen=True, order=True):
    """One thing wrong with a file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}"


class Document:
    """One YAML document as plain data, together with where each part of it stands.

    `data` holds dicts, lists, strings, numbers, booleans and None. `at(path)` is the (line, column) of the value at a
    path such as `("groups", 0, "rules", 2, "expr")`; `at_key(path)` of its key. An unknown path answers with its
    nearest known ancestor, so a *missing* key is reported where it should have been.
    """

    def __init__(self, file: str, node: yaml.Node | None, text: str = "") -> None:
        self.file = file
        self._text = text
        self.problems: list[Problem] = []
        self._values: dict[Path, yaml.Mark] = {}
        self._keys: dict[Path, yaml.Mark] = {}
        self._blocks: dict[Path, str] = {}
        self._texts: dict[Path, str] = {}
        self.data: Any = None if node is None else self._build(node, ())

    def at(self, path: Path) -> tuple[int, int]:
        """Line and column of the value at a path."""
        return self._find(self._values, path)

    def at_key(self, path: Path) -> tuple[int, int]:
        """Line and column of the key that names a path."""
        return self._find({**self._values, **self._keys}, path)

    def text(self, path: Path) -> str | None:
        """The scalar at a path as it is written, whatever type YAML sees in it; None for null, a list or a mapping.

        A label `yes` or `010` is that text to Prometheus, not true or eight.
        """
        return self._texts.get(path)

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        """A problem at a path (at its key if `key`)."""
        line, column = self.at_key(path) if key else self.at(path)
        return Problem(self.file, line, column, message)

    def inside(self, path: Path, text_line: int, text_column: int) -> tuple[int, int]:
        """Where line and column of a *string value* (an expression, say; from 1) stand in the file.

        Exact for plain, quoted one-line and literal (`|`) strings; a folded (`>`) string answers with its start.
        """
        line, column = self.at(path)
        style = self._blocks.get(path, "")
        if style == "|":
            body = self._text.split("\n")[line:]
            first = next((text for text in body if text.strip()), "")
            return line + text_line, len(first) - len(first.lstrip(" ")) + text_column
        if style == ">":
            return line, column
        quote = 1 if style in ("'", '"') else 0
        if text_line > 1:
            return line, column
        return line, column + quote + text_column - 1

    def _find(self, marks: dict[Path, yaml.Mark], path: Path) -> tuple[int, int]:
        while path not in marks:
            if not path:
                return 1, 1
            path = path[:-1]
        mark = marks[path]
        return mark.line + 1, mark.column + 1

    def _build(self, node: yaml.Node, path: Path) -> Any:
        self._values[path] = node.start_mark
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        self._blocks[path] = getattr(node, "style", None) or ""
        value = _scalar(node)
        if value is not None:
            self._texts[path] = str(node.value)
        return value

    def _build_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            where = (*path, key)
            if key in out:
                mark = key_node.start_mark
                self.problems.append(
                    Problem(self.file, mark.line + 1, mark.column + 1, f"key {key!r} stands here twice")
                )
            self._keys[where] = key_node.start_mark
            out[key] = self._build(value_node, where)
        return out


def _scalar(node: yaml.Node) -> Any:
    return yaml.constructor.SafeConstructor().construct_object(node)


def load_yaml(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """Every document of a YAML text with positions, and what is wrong with its syntax (then no documents)."""
    try:
        documents = [Document(file, node, text) for node in _compose(text)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return [], [Problem(file, line, column, f"not valid YAML: {error.problem or error.context}")]
    except yaml.YAMLError as error:
        return [], [Problem(file, 1, 1, f"not valid YAML: {error}")]
    return documents, [problem for document in documents for problem in document.problems]


def _compose(text: str) -> list[yaml.Node]:
    """The documents' nodes; by libyaml, which is many times faster, and again in Python for its clearer errors."""
    try:
        return list(yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError:
        return list(yaml.compose_all(text, Loader=yaml.SafeLoader))
