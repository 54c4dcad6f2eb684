"""Loki's pattern language: literal text with captures between, `<method> <path> <_>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CAPTURE = re.compile(r"<([A-Za-z_][A-Za-z0-9_]*)>")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Parts in order: literal text, or a capture's name in a tuple."""

    parts: tuple[str | tuple[str], ...]

    @property
    def names(self) -> list[str]:
        """The captures that have a name."""
        return [part[0] for part in self.parts if isinstance(part, tuple) and part[0] != "_"]

    def extract(self, line: str) -> list[tuple[str, str]]:
        """What the captures hold, from the left, as far as the line follows the pattern."""
        found: list[tuple[str, str]] = []
        parts = list(self.parts)
        at = 0
        if parts and isinstance(parts[0], str):
            start = line.find(parts[0])
            if start != 0:
                return []
            at = len(parts.pop(0))
        for index in range(0, len(parts), 2):
            name = parts[index][0]
            literal = parts[index + 1] if index + 1 < len(parts) else None
            end = len(line) if literal is None else line.find(str(literal), at)
            stops = end < 0
            end = len(line) if stops else end
            if name != "_" and (end > at or not stops):
                found.append((name, line[at:end]))
            if stops or literal is None:
                break
            at = end + len(literal)
        return found

    def covers(self, line: str) -> bool:
        """Whether the whole line follows the pattern (as a line filter)."""
        at = 0
        gap = False
        for index, part in enumerate(self.parts):
            if isinstance(part, tuple):
                gap = True
                continue
            if index == len(self.parts) - 1 and gap:
                return line.endswith(part) and len(line) - len(part) >= at
            found = line.find(part, at)
            if found < 0 or (not gap and found != at):
                return False
            at, gap = found + len(part), False
        return gap or at == len(line)


def parse_pattern(text: str) -> Pattern:
    """The parts of a pattern. Raises `ValueError` for an empty one and for captures that touch or repeat."""
    if not text:
        raise ValueError("the pattern is empty")
    parts: list[str | tuple[str]] = []
    at = 0
    for match in _CAPTURE.finditer(text):
        if match.start() > at:
            parts.append(text[at : match.start()])
        elif parts:
            raise ValueError(f"found consecutive capture '<{parts[-1][0]}><{match[1]}>': put text between them")
        parts.append((match[1],))
        at = match.end()
    if at < len(text):
        parts.append(text[at:])
    pattern = Pattern(tuple(parts))
    names = pattern.names
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"duplicate capture name ({name}) in the pattern")
    return pattern
