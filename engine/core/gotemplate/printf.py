"""Go's `fmt.Sprintf`: verbs with flags, width, precision, `*` and `[n]`, and what it says of wrong ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.core.gotemplate.printing import Flags, format_value
from engine.core.gotemplate.values import Value, type_name

MOST = 1_000_000  # the widest field; Go takes some that are ten times as wide
_DIGITS = re.compile(r"[0-9]+")
_SIMPLE = re.compile(
    r"%(?:%|(?P<signs>[-+# 0]*)(?P<width>[1-9][0-9]{0,4})?(?P<precision>\.[0-9]{0,4})?(?P<verb>[a-vx-zA-Z]))"
)
_INDEX = re.compile(r"\[([^\]]*)\]")


def sprintf(template: str, arguments: Sequence[Value]) -> str:
    """The format filled in. Wrong verbs, missing and surplus arguments show in the text, as in Go."""
    plan = _plan(template)
    if plan is None or len(plan.verbs) != len(arguments):
        return _Printer(template, arguments).run()
    out = [plan.start]
    for (verb, flags, text), value in zip(plan.verbs, arguments, strict=True):
        out += (format_value(value, verb, flags), text)
    return "".join(out)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A format that takes its arguments in order: text, then for each argument verb, flags and the text behind it."""

    start: str
    verbs: tuple[tuple[str, Flags, str], ...]


@lru_cache(maxsize=1_000)
def _plan(template: str) -> _Plan | None:
    """A format taken apart once; None if that needs the arguments."""
    texts, verbs, done = [""], [], 0
    for match in _SIMPLE.finditer(template):
        texts[-1] += template[done : match.start()]
        done = match.end()
        if match["verb"] is None:
            texts[-1] += "%"
            continue
        verbs.append((match["verb"], _flags(match)))
        texts.append("")
    texts[-1] += template[done:]
    if "%" in _SIMPLE.sub("", template):
        return None
    return _Plan(texts[0], tuple((verb, flags, text) for (verb, flags), text in zip(verbs, texts[1:], strict=True)))


def _flags(match: re.Match[str]) -> Flags:
    flags = Flags(*(sign in match["signs"] for sign in "-+# 0"))
    flags.width = int(match["width"]) if match["width"] else None
    flags.precision = None if match["precision"] is None else int(match["precision"][1:] or 0)
    if match["verb"] == "v":
        flags.plus_v, flags.plus, flags.sharp_v, flags.sharp = flags.plus, False, flags.sharp, False
    return flags


class _Printer:
    """One pass over a format."""

    def __init__(self, template: str, arguments: Sequence[Value]) -> None:
        self.template = template
        self.arguments = arguments
        self.at = 0
        self.number = 0  # the next argument
        self.reordered = False
        self.good_number = True
        self.after_index = False
        self.out: list[str] = []

    def run(self) -> str:
        """The whole text."""
        while (percent := self.template.find("%", self.at)) >= 0:
            self.out.append(self.template[self.at : percent])
            self.at = percent + 1
            self.verb()
        self.out.append(self.template[self.at :])
        if not self.reordered and self.number < len(self.arguments):
            extra = ", ".join(map(_described, self.arguments[self.number :]))
            self.out.append(f"%!(EXTRA {extra})")
        return "".join(self.out)

    def verb(self) -> None:
        """One verb with all that stands before it."""
        flags = Flags()
        self.good_number, self.after_index = True, False
        self.flags(flags)
        self.index()
        self.width(flags)
        if self.template.startswith(".", self.at) and self.at + 1 < len(self.template):
            self.precision(flags)
        if not self.after_index:
            self.index()
        if self.at >= len(self.template):
            self.out.append("%!(NOVERB)")
            return
        letter = self.template[self.at]
        self.at += 1
        self.out.append(self.filled(letter, flags))

    def filled(self, letter: str, flags: Flags) -> str:
        """The text for a verb."""
        if letter == "%":
            return "%"
        if not self.good_number:
            return f"%!{letter}(BADINDEX)"
        if self.number >= len(self.arguments):
            return f"%!{letter}(MISSING)"
        value = self.arguments[self.number]
        self.number += 1
        if letter in "vw":
            flags.plus_v, flags.plus = flags.plus, False
            flags.sharp_v, flags.sharp = flags.sharp, False
        return format_value(value, letter, flags)

    def flags(self, flags: Flags) -> None:
        """`+-# 0` in any order."""
        names = {"+": "plus", "-": "minus", "#": "sharp", " ": "space", "0": "zero"}
        while self.at < len(self.template) and self.template[self.at] in names:
            setattr(flags, names[self.template[self.at]], True)
            self.at += 1

    def index(self) -> None:
        """`[n]`: which argument is next."""
        self.after_index = False
        if not self.template.startswith("[", self.at):
            return
        self.reordered = True
        match = _INDEX.match(self.template, self.at)
        self.at = match.end() if match else self.at + 1
        number = int(match[1]) if match and _DIGITS.fullmatch(match[1]) and len(match[1]) < 8 else 0
        self.after_index = 0 < number <= len(self.arguments)
        if self.after_index:
            self.number = number - 1
        else:
            self.good_number = False
            self.after_index = match is not None and number > 0

    def width(self, flags: Flags) -> None:
        """A number, or `*` for one that comes as an argument."""
        if self.template.startswith("*", self.at):
            self.at += 1
            flags.width = self.star()
            if flags.width is None:
                self.out.append("%!(BADWIDTH)")
            elif flags.width < 0:
                flags.width, flags.minus, flags.zero = -flags.width, True, False
            self.after_index = False
            return
        flags.width = self.digits()
        if self.after_index and flags.width is not None:
            self.good_number = False

    def precision(self, flags: Flags) -> None:
        """What stands behind the point; nothing means 0."""
        self.at += 1
        if self.after_index:
            self.good_number = False
        self.index()
        if self.template.startswith("*", self.at):
            self.at += 1
            flags.precision = self.star()
            if flags.precision is None or flags.precision < 0:
                flags.precision = None
                self.out.append("%!(BADPREC)")
            self.after_index = False
            return
        flags.precision = self.digits() or 0

    def digits(self) -> int | None:
        """A number in the format; None if there is none, or one too large."""
        match = _DIGITS.match(self.template, self.at)
        if match is None:
            return None
        self.at = match.end()
        value = int(match[0]) if len(match[0]) < 10 else MOST + 1
        if value <= MOST:
            return value
        self.at = len(self.template)  # Go gives up on the rest of the format
        return None

    def star(self) -> int | None:
        """The next argument as a width; None if it is no integer."""
        if self.number >= len(self.arguments):
            return None
        value = self.arguments[self.number]
        self.number += 1
        good = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST
        return int(value) if good else None


def _described(value: Value) -> str:
    return "<nil>" if value is None else f"{type_name(value)}={format_value(value, 'v', Flags())}"
