"""Reading JSON as far as it goes: the fields of an object up to where it is malformed, if it is.

Loki reads a line field by field and stops where it has what it needs, so a line that is cut off still gives the fields
before the cut, and what follows the object is not looked at. The exact decoders in `json_parser` refuse such lines as
a whole; then this one is asked. It goes once over the text, whatever stands there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_BLANK = re.compile(r"\s*")
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_SCALAR = re.compile(r"true|false|null|-?[0-9][0-9+\-.eE]*+")
_IN_ARRAY = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]]', re.DOTALL)
_IN_OBJECT = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}]', re.DOTALL)
_DEEPEST = 64


class FaultError(ValueError):
    """The object goes wrong in the value of the field at `path`; empty where it is no value that is wrong."""

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


Field = tuple[tuple[str, ...], str]
"""The keys that lead to a scalar, and its text."""


def fields(text: str, *, with_whole: bool = False) -> Iterator[Field]:
    """The strings, numbers and booleans of an object with their paths, in order; arrays and nulls are left out.

    `with_whole` also gives the text of every object and array that comes to an end, objects before what is in them.

    Raises `FaultError` where the object is malformed; what follows it is not looked at.
    """
    at = _after(text, 0, "{")
    path: list[str] = []
    while True:
        at = _skip(text, at)
        if text.startswith("}", at):
            at += 1
            if not path:
                return
            path.pop()
        else:
            key, at = _string(text, at)
            at = _skip(text, _after(text, at, ":"))
            if text.startswith("{", at):
                path.append(key)
                if with_whole and (end := _block_end(text, at, _IN_OBJECT, "{")):
                    yield tuple(path), text[at:end]
                if len(path) > _DEEPEST:
                    raise FaultError(f"objects nested deeper than {_DEEPEST} at character {at + 1}")
                at += 1
                continue
            start = at
            try:
                value, at = _value(text, at)
            except FaultError as error:
                raise FaultError(str(error), (*path, key)) from error
            if value is not None:
                yield (*path, key), value
            elif with_whole and text.startswith("[", start):
                yield (*path, key), text[start:at]
        at = _skip(text, at)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith("}", at):
            raise FaultError(f"the object goes wrong at character {at + 1}")


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _after(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if not text.startswith(mark, at):
        raise FaultError(f"no {mark} at character {at + 1}")
    return at + 1


def _string(text: str, at: int) -> tuple[str, int]:
    found = _STRING.match(text, at)
    if found is None:
        raise FaultError(f"no whole string at character {at + 1}")
    return _unescaped(found[1]), found.end()


def _unescaped(body: str) -> str:
    if "\\" not in body:
        return body
    try:
        return str(json.loads(f'"{body}"', strict=False))
    except ValueError:  # an escape that JSON does not have
        return ""


def _value(text: str, at: int) -> tuple[str | None, int]:
    if text.startswith('"', at):
        return _string(text, at)
    if text.startswith("[", at):
        return None, _array_end(text, at)
    found = _SCALAR.match(text, at)
    if found is None:
        raise FaultError(f"no value at character {at + 1}")
    return None if found[0] == "null" else found[0], found.end()


def _array_end(text: str, at: int) -> int:
    end = _block_end(text, at, _IN_ARRAY, "[")
    if not end:
        raise FaultError(f"no end of the array at character {at + 1}")
    return end


def _block_end(text: str, at: int, marks: re.Pattern[str], opening: str) -> int:
    """Where an array or object ends that begins at `at`; 0 if it does not."""
    depth = 0
    for found in marks.finditer(text, at):
        if found[0] == opening:
            depth += 1
        elif not found[0].startswith('"'):
            depth -= 1
            if depth == 0:
                return found.end()
    return 0
