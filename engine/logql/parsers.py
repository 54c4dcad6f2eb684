"""The parser stages other than JSON: `logfmt`, `regexp`, `pattern`; and the choice between them all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from engine.logql import json_parser
from engine.logql import tree as t
from engine.logql.line import SUFFIX, Line, Stage, label_name
from engine.logql.pattern import parse_pattern
from engine.logql.regexes import compile_regex

_PAIR = re.compile(r'([^\s="]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*)))?(?=\s|$)')
_BLANKS = re.compile(r"\s*")
_JUNK = re.compile(r"\S*")
_UNTERMINATED = re.compile(r'[^\s="]+="')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_CAPTURE = re.compile(r"\(\?P?<([^>]+)>")
_FLAGS = ("--strict", "--keep-empty")


def compile_parser(node: t.Parser, wanted: Collection[str] | None) -> Stage:
    """The stage of a parser. With `wanted`, only labels of these names need to be found.

    Raises `ExpressionError`.
    """
    try:
        if node.kind == "json":
            if node.extractions:
                return json_parser.paths(node.extractions)
            return json_parser.all_fields if wanted is None else json_parser.some_fields(wanted)
        if node.kind == "unpack":
            return json_parser.unpack
        if node.kind == "logfmt":
            return _logfmt(node, wanted)
        if node.kind == "regexp":
            return _regexp(node)
        return _pattern(node)
    except ValueError as error:
        raise node.place.refuse(str(error)) from error


def _logfmt(node: t.Parser, wanted: Collection[str] | None) -> Stage:
    for flag in node.flags:
        if flag not in _FLAGS:
            raise ValueError(f"logfmt has no flag {flag} (known: {', '.join(_FLAGS)})")
    strict, keep_empty = "--strict" in node.flags, "--keep-empty" in node.flags
    renamed: dict[str, list[str]] = {}
    for label, key in node.extractions:
        renamed.setdefault(label_name(key), []).append(label)
    only = None if wanted is None else {name for label in wanted for name in (label, label.removesuffix(SUFFIX))}

    def stage(line: Line) -> bool:
        for key, value in _pairs(line, strict=strict):
            if not value and not keep_empty:
                continue
            name = label_name(key)
            if renamed:
                for label in renamed.get(name, ()):
                    line.add(label, value)
            elif only is None or name in only:
                line.add(name, value)
        if keep_empty:
            _add_missing(line, renamed)
        return True

    return stage


def _pairs(line: Line, *, strict: bool) -> list[tuple[str, str]]:
    """The pairs of a logfmt line; what is malformed is skipped, or marks the line if `strict`."""
    found: list[tuple[str, str]] = []
    text = line.text
    at = 0
    while at < len(text):
        blank = _BLANKS.match(text, at)
        at = blank.end() if blank else at
        if at == len(text):
            break
        match = _PAIR.match(text, at)
        if match is None:
            if strict:
                line.fail("LogfmtParserErr", f"logfmt syntax error at pos {at + 1}")
                return found
            junk = _JUNK.match(text, at)
            at = len(text) if _UNTERMINATED.match(text, at) or junk is None else max(junk.end(), at + 1)
            continue
        key, quoted, plain = match.groups()
        if quoted is not None and "\\" in quoted:
            quoted = _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), quoted)
        found.append((key, quoted if quoted is not None else plain or ""))
        at = match.end()
    return found


def _add_missing(line: Line, renamed: Mapping[str, list[str]]) -> None:
    for labels in renamed.values():
        for label in labels:
            if label not in line.labels:
                line.add(label, "")


def _regexp(node: t.Parser) -> Stage:
    written = _CAPTURE.findall(node.argument)
    for name in written:
        if written.count(name) > 1:
            raise ValueError(f"duplicate extracted label name {name!r} in the regular expression")
    pattern = compile_regex(node.argument, node.place)
    for name in pattern.groupindex:
        if label_name(name) != name:
            raise ValueError(f"invalid extracted label name {name!r} in the regular expression")
    groups = [(label_name(name), index) for name, index in pattern.groupindex.items()]
    if not groups:
        raise ValueError("at least one named capture must be supplied, such as (?P<user>\\w+)")

    def stage(line: Line) -> bool:
        match = pattern.search(line.text)
        if match is not None:
            for name, index in groups:
                line.add(name, match.group(index) or "")
        return True

    return stage


def _pattern(node: t.Parser) -> Stage:
    pattern = parse_pattern(node.argument)
    if not pattern.names:
        raise ValueError("at least one capture is required, such as <user>")

    def stage(line: Line) -> bool:
        for name, value in pattern.extract(line.text):
            line.add(name, value)
        return True

    return stage
