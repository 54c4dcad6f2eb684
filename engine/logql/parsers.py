"""The parser stages other than JSON: `logfmt`, `regexp`, `pattern`; and the choice between them all."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from engine.logql import json_parser
from engine.logql import tree as t
from engine.logql.line import SUFFIX, Line, Stage, label_name
from engine.logql.pattern import parse_pattern
from engine.logql.regexes import compile_regex

_BLANKS = re.compile(r"[\x00-\x20]*")
_JUNK = re.compile(r"[^\x00-\x20]+")
# A quoted value ends its pair, whatever follows; a plain one reaches up to a blank and holds neither quote nor "=".
_PAIR = re.compile(
    r'[\x00-\x20]*([^\x00-\x20="]+)(?:="((?:[^"\\]|\\.)*)"|=([^\x00-\x20="]*)(?=[\x00-\x20]|$)|(?=[\x00-\x20]|$))',
    re.DOTALL,
)
_UNTERMINATED = re.compile(r'[^\x00-\x20="]+="')
_ESCAPE = re.compile(r'\\(?:(["\\/\'])|([bfnrt])|u([0-9a-fA-F]{4})|(.))', re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
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
    if node.extractions:
        return _logfmt_fields(node.extractions, wanted, strict=strict)
    only = None if wanted is None else _with_originals(wanted)

    def stage(line: Line) -> bool:
        for key, value in _pairs(line, strict=strict):
            name = label_name(key)
            if (value or keep_empty) and (only is None or name in only):
                line.add(name, value)
                if strict and wanted and line.has_parsed(wanted):
                    break  # nobody minds what follows, not even if it is malformed
        return True

    return stage


def _logfmt_fields(extractions: Sequence[tuple[str, str]], wanted: Collection[str] | None, *, strict: bool) -> Stage:
    """The stage of `logfmt label="field", ...`: a field that is not there makes an empty label.

    As in Loki, which takes these empty labels for found: where only some labels are asked for and all are given here,
    nothing is looked at behind the first field, and a field counts only if its own name is one of the labels or asked
    for. So `sum by (level) (... | logfmt level, took | took > 1s ...)` sees one of the two.
    """
    labels = [label for label, _ in extractions]
    only = None if wanted is None else _with_originals(wanted)
    renamed: dict[str, list[str]] = {}
    for label, key in extractions:
        name = label_name(key)
        if only is None or name in only or name in labels:
            renamed.setdefault(name, []).append(label)
    elsewhere = None if not wanted else [name for name in wanted if name not in labels]

    def stage(line: Line) -> bool:
        found = dict.fromkeys(labels, "")
        for key, value in _pairs(line, strict=strict):
            hits = renamed.get(label_name(key), ())
            found.update(dict.fromkeys(hits, value))
            if hits and elsewhere is not None and line.has_parsed(elsewhere):
                break
        for label, value in found.items():
            line.add(label, value)
        return True

    return stage


def _with_originals(wanted: Collection[str]) -> set[str]:
    """The names, and of those that end as a label does that had to make way, what they were."""
    return {name for label in wanted for name in (label, label.removesuffix(SUFFIX))}


def _pairs(line: Line, *, strict: bool) -> Iterator[tuple[str, str]]:
    """The pairs of a logfmt line; what is malformed is skipped, or ends it and marks the line if `strict`."""
    text = line.text
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            blank = _BLANKS.match(text, at)
            at = blank.end() if blank else at
            if at == len(text):
                return
            end = _after_fault(text, at)
        else:
            key, quoted, value = match.groups()
            end = match.end()
            if quoted is not None:
                value = quoted if "\\" not in quoted else _unquoted(quoted)
            if (value is not None or quoted is None) and "\ufffd" not in key:
                yield key, value or ""
                at = end
                continue
        if strict:
            line.fail("LogfmtParserErr", f"logfmt syntax error at pos {at + 1}")
            return
        at = end


def _unquoted(quoted: str) -> str | None:
    """What stands in quotes without its escapes; None if there is one that there is not."""
    if any(escape[4] for escape in _ESCAPE.finditer(quoted)):
        return None
    return _ESCAPE.sub(_unescape, quoted).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescape(escape: re.Match[str]) -> str:
    itself, control, code, _ = escape.groups()
    return itself or (_ESCAPED[control] if control else chr(int(code, 16)))


def _after_fault(text: str, at: int) -> int:
    """Where reading goes on after what is no pair: at the next blank; nowhere if a quote was left open."""
    junk = _JUNK.match(text, at)
    return len(text) if junk is None or _UNTERMINATED.match(text, at) else junk.end()


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
