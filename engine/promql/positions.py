"""Where in an expression something stands.

The parser's tree has no positions and its errors are sentences without them. This module reads the text once more,
as tokens only, and finds the place a sentence speaks of: exactly where it names a token or brackets do not match,
else the first token that cannot stand where it does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t\r\n]+|\#[^\n]*)
    | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)
    | (?P<number>0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|(?:\d+(?:ms|[smhdwy]))+(?!\w)
        |(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[A-Za-z_]*)
    | (?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<operator>==|!=|=~|!~|<=|>=|</|>/|[-+*/%^<>=@,:(){}\[\]])
    | (?P<bad>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {")": "(", "]": "[", "}": "{"}
_BINARY_WORDS = {"and", "or", "unless", "atan2"}
_BINARY = {"+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">="}
_MODIFIERS = {"on", "ignoring", "group_left", "group_right", "bool", "by", "without", "offset", "fill", "fill_left"}
_QUOTED = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the offset at which it begins; `kind` is string, number, word, operator or bad."""

    kind: str
    text: str
    offset: int

    @property
    def end(self) -> int:
        """The offset after its last character."""
        return self.offset + len(self.text)


def tokens(text: str) -> list[Token]:
    """The tokens of an expression, without blanks and comments."""
    found: list[Token] = []
    at = brackets = 0
    while match := _TOKEN.match(text, at):
        token = Token(match.lastgroup or "bad", match[0], at)
        if brackets and token.text[0] == ":":  # which elsewhere may begin a metric name
            token = Token("operator", ":", at)
        brackets += (token.text == "[") - (token.text == "]")
        at = token.end
        if token.kind != "blank":
            found.append(token)
    return found


def line_column(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def of_token(text: str, wanted: str) -> tuple[int, int]:
    """Where a word or operator first stands (strings and comments are not looked into), else the start."""
    offset = next((t.offset for t in tokens(text) if t.text.lower() == wanted.lower()), None)
    return line_column(text, _first(tokens(text)) if offset is None else offset)


def of_or_matcher(text: str) -> tuple[int, int]:
    """Where `or` stands between matchers in braces."""
    depth = 0
    for token in tokens(text):
        depth += (token.text == "{") - (token.text == "}")
        if depth and token.text.lower() == "or":
            return line_column(text, token.offset)
    return 1, 1


def of_string(text: str, content: str) -> tuple[int, int]:
    """Where a string literal with this content, as it is written, first stands."""
    for token in tokens(text):
        if token.kind == "string" and content in token.text:
            return line_column(text, token.offset)
    return 1, 1


def of_parse_error(text: str, message: str) -> tuple[int, int]:
    """Where the mistake stands that the parser's message speaks of."""
    found = tokens(text)
    offset = _brackets(text, found)
    if offset is None:
        offset = _named(found, message)
    if offset is None:
        offset = _misplaced(text, found)
    return line_column(text, _first(found) if offset is None else offset)


def _first(found: Sequence[Token]) -> int:
    return found[0].offset if found else 0


def _brackets(text: str, found: Sequence[Token]) -> int | None:
    """The first character that no token can begin with, or the first bracket without its partner."""
    waiting: list[Token] = []
    for token in found:
        if token.kind == "bad":
            return token.offset
        if token.text in _CLOSING.values():
            waiting.append(token)
        elif token.text in _CLOSING:
            if not waiting or waiting[-1].text != _CLOSING[token.text]:
                return token.offset
            waiting.pop()
    return waiting[-1].offset if waiting else None


def _named(found: Sequence[Token], message: str) -> int | None:
    """The token that the message quotes."""
    quoted = _QUOTED.findall(message)
    last_word = message.rsplit(" ", 1)[-1]
    for name in [*quoted, last_word]:
        for token in found:
            if token.kind != "string" and token.text == name:
                return token.offset
    if message.startswith("illegal regex for "):
        pattern = message.removeprefix("illegal regex for ")
        return next((t.offset for t in found if t.kind == "string" and pattern in t.text), None)
    return None


def _misplaced(text: str, found: Sequence[Token]) -> int | None:
    """The first token that stands where an operand is missing, or where there is one too many."""
    want_operand = True
    depth = 0
    for before, token in zip([None, *found], found, strict=False):
        depth += (token.text in "{[") - (token.text in "}]")
        if depth or token.text in "}]":
            want_operand = False
            continue
        word = token.text.lower() if token.kind == "word" else ""
        is_binary = word in _BINARY_WORDS or token.text in _BINARY
        if word in _MODIFIERS:
            want_operand = True
        elif is_binary or token.text in (",", "@"):
            if want_operand and token.text not in ("+", "-", ",", "@"):
                return token.offset
            want_operand = True
        elif token.text == "(":
            want_operand = True
        elif token.text == ")":
            if want_operand and (before is None or before.text not in ("(", ",")):
                return token.offset
            # After the labels of `on (...)`, `by (...)` another operand may follow, so nothing is expected.
            want_operand = _closes_labels(found, token)
        elif not want_operand and not (before and before.kind == "word" and token.text == "("):
            return token.offset
        else:
            want_operand = False
    return len(text.rstrip()) if want_operand and found else None


def _closes_labels(found: Sequence[Token], closing: Token) -> bool:
    opened: list[int] = []
    for i, token in enumerate(found):
        if token.text == "(":
            opened.append(i)
        elif token.text == ")":
            start = opened.pop() if opened else 0
            if token is closing:
                return start > 0 and found[start - 1].text.lower() in _MODIFIERS
    return False
