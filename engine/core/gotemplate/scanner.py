"""Template text to tokens, one after another: the lexical rules of Go's text/template.

The scanner is lazy, so that the parser's own complaint about an earlier token comes first. Text next to `{{-` and `-}}`
is trimmed here and comments end here; the parser sees neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.core.expression import ExpressionError

BLANKS = " \t\r\n"
KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with"})
_WORD = re.compile(r"\w*")
_SPACE = re.compile(r"[ \t\r\n]+")
_STRING = {
    '"': re.compile(r'"(?:\\[^\n]|[^"\\\n])*"', re.DOTALL),
    "'": re.compile(r"'(?:\\[^\n]|[^'\\\n])*'", re.DOTALL),
    "`": re.compile(r"`[^`]*`"),
}
_STRING_KIND = {
    '"': ("string", "quoted string"),
    "'": ("char", "character constant"),
    "`": ("string", "raw quoted string"),
}
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its offset in the source.

    Kinds: text, left, right, space, string, char, number, complex, bool, word, keyword, variable, field, dot, symbol,
    end.
    """

    kind: str
    text: str
    offset: int


def error_at(source: str, offset: int, message: str) -> ExpressionError:
    """An error with the line and column of an offset."""
    before = source[:offset]
    return ExpressionError(message, before.count("\n") + 1, offset - before.rfind("\n"))


def scan(source: str) -> Iterator[Token]:
    """The tokens of a template, an `end` token last. Raises `ExpressionError`."""
    at, trim = 0, False
    while True:
        opening = source.find("{{", at)
        text = source[at:] if opening < 0 else source[at:opening]
        start = at
        if trim:
            stripped = text.lstrip(BLANKS)
            start, text = at + len(text) - len(stripped), stripped
        if opening < 0:
            if text:
                yield Token("text", text, start)
            yield Token("end", "end of template", len(source))
            return
        trims_before = source[opening + 2 : opening + 3] == "-" and source[opening + 3 : opening + 4] in tuple(BLANKS)
        text = text.rstrip(BLANKS) if trims_before else text
        if text:
            yield Token("text", text, start)
        action = _Action(source, opening, opening + 4 if trims_before else opening + 2)
        yield from action.tokens()
        at, trim = action.at, action.trims_after


class _Action:
    """The scanner inside one `{{ }}`."""

    def __init__(self, source: str, opening: int, at: int) -> None:
        self.source = source
        self.opening = opening
        self.at = at
        self.depth = 0
        self.trims_after = False

    def error(self, message: str, offset: int) -> ExpressionError:
        """An error at an offset."""
        return error_at(self.source, offset, message)

    def tokens(self) -> Iterator[Token]:
        """The tokens of the action, or nothing for a comment."""
        if self.source.startswith("/*", self.at):
            self.comment()
            return
        yield Token("left", "{{", self.opening)
        while True:
            start = self.at
            if self.closes():
                if self.depth:
                    raise self.error("unclosed left paren", start)
                yield Token("right", "}}", start)
                return
            yield self.token()

    def closes(self) -> bool:
        """Whether the action ends here; then goes past its end."""
        trimmed = self.source[self.at : self.at + 1] in tuple(BLANKS) and self.source.startswith("-}}", self.at + 1)
        if not trimmed and not self.source.startswith("}}", self.at):
            return False
        self.trims_after = trimmed
        self.at += 4 if trimmed else 2
        return True

    def comment(self) -> None:
        """Goes past a comment."""
        end = self.source.find("*/", self.at + 2)
        if end < 0:
            raise self.error("unclosed comment", self.opening)
        self.at = end + 2
        if not self.closes():
            raise self.error("comment ends before closing delimiter", self.at)

    def token(self) -> Token:
        """The next token."""
        if self.at >= len(self.source):
            raise self.error("unclosed action: {{ without }}", self.opening)
        sign = self.source[self.at]
        if sign in BLANKS:
            return self.space()
        if sign in _STRING:
            return self.string(sign)
        if sign == "." and not self.source[self.at + 1 : self.at + 2].isdecimal():
            return self.name("field", "dot")
        if sign in "+-.0123456789":
            return self.number()
        if sign == "$":
            return self.name("variable", "variable")
        if _WORD.match(self.source, self.at)[0]:  # type: ignore[index]  # the pattern matches the empty text, too
            return self.name("word", "word")
        return self.symbol(sign)

    def cut(self, kind: str, end: int) -> Token:
        """The token from here to `end`."""
        token = Token(kind, self.source[self.at : end], self.at)
        self.at = end
        return token

    def space(self) -> Token:
        """A run of blanks, without the one that belongs to ` -}}`."""
        end = _SPACE.match(self.source, self.at).end()  # type: ignore[union-attr]  # stands on a blank
        if self.source.startswith("-}}", end):
            end -= 1
        return self.cut("space", end)

    def string(self, mark: str) -> Token:
        """A string or character constant."""
        kind, name = _STRING_KIND[mark]
        match = _STRING[mark].match(self.source, self.at)
        if match is None:
            raise self.error(f"unterminated {name}", self.at)
        return self.cut(kind, match.end())

    def number(self) -> Token:
        """A number, perhaps complex."""
        start = self.at
        token = self.half_number(start)
        if self.source[self.at : self.at + 1] in ("+", "-"):
            second = self.half_number(start)
            if not second.text.endswith("i"):
                raise self.error(f"bad number syntax: {token.text + second.text!r}", start)
            return Token("complex", token.text + second.text, start)
        return token

    def half_number(self, start: int) -> Token:
        """A real or imaginary number."""
        end = _NUMBER.match(self.source, self.at).end()  # type: ignore[union-attr]  # matches the empty text, too
        word = _WORD.match(self.source, end)[0]  # type: ignore[index]
        if word:
            raise self.error(f"bad number syntax: {self.source[start : end + 1]!r}", start)
        return self.cut("number", end)

    def name(self, kind: str, bare_kind: str) -> Token:
        """A field, variable, function or keyword; `bare_kind` if nothing follows the `.` or `$`."""
        start = self.at
        prefix = self.source[start] in ".$"
        end = _WORD.match(self.source, start + prefix).end()  # type: ignore[union-attr]
        following = self.source[end : end + 1]
        if following and following not in BLANKS + ".,|:)(" and not self.source.startswith("}}", end):
            raise self.error(f"bad character {following!r}", end)
        text = self.source[start:end]
        if kind == "word":
            kind = "keyword" if text in KEYWORDS else "bool" if text in ("true", "false") else "word"
        return self.cut(bare_kind if prefix and end == start + 1 else kind, end)

    def symbol(self, sign: str) -> Token:
        """A punctuation mark."""
        if sign == ":":
            if not self.source.startswith(":=", self.at):
                raise self.error("expected :=", self.at)
            return self.cut("symbol", self.at + 2)
        if sign == ")" and self.depth == 0:
            raise self.error("unexpected right paren", self.at)
        if not (sign.isascii() and sign.isprintable()):
            raise self.error(f"unrecognized character in action: {sign!r}", self.at)
        self.depth += {"(": 1, ")": -1}.get(sign, 0)
        return self.cut("symbol", self.at + 1)
