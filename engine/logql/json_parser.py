"""The `json` and `unpack` stages.

Three ways to the same labels: all fields of a line (nested ones joined by `_`), only the fields a rule asks for, or
the paths it names. Asking for a few fields is several times faster, because the rest of the line is skipped over
undecoded; whatever could make the answer differ (a key that stands twice, an escaped key) takes the full way. A line
that is no sound JSON gives the fields before the fault (`json_scan`), and is marked unless these are all that is asked
for. Numbers keep the text they were written in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from engine.logql import json_scan
from engine.logql.line import SUFFIX, Line, Stage, label_name

ERROR_KIND = "JSONParserErr"
PACKED_LINE = "_entry"

_Pairs = tuple[tuple[str, Any], ...]
_full = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder(Raw).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode
_decode_string = msgspec.json.Decoder(str).decode
_ERRORS = (ValueError, RecursionError)  # msgspec's and json's errors are ValueErrors
_JSON_STARTS = '"{['
_PATH = re.compile(r'\.?([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]')


def all_fields(line: Line) -> bool:
    """The stage that makes a label of every field."""
    try:
        pairs = _full.decode(line.text)
    except _ERRORS:
        return _tolerant(line, None)
    if isinstance(pairs, tuple):
        _flatten(line, pairs, "")
    else:
        line.fail(ERROR_KIND, "the line is no JSON object")
    return True


def _tolerant(line: Line, names: Collection[str] | None) -> bool:
    """The way for lines that are no sound JSON: fields up to the fault, of these names only."""
    try:
        for path, value in json_scan.fields(line.text):
            if "" in path:
                continue
            name = "_".join([label_name(path[0]), *map(_inner_name, path[1:])])
            if names is None or name in names:
                line.add(name, value)
                if names is not None and line.has_parsed(names):
                    return True
    except ValueError as error:
        line.fail(ERROR_KIND, str(error))
    return True


def _flatten(line: Line, pairs: _Pairs, prefix: str) -> None:
    for key, value in pairs:
        name = f"{prefix}{label_name(key)}" if not prefix else f"{prefix}{_inner_name(key)}"
        if not key:
            continue
        if isinstance(value, str):
            line.add(name, value)
        elif isinstance(value, bool):
            line.add(name, "true" if value else "false")
        elif isinstance(value, tuple):
            _flatten(line, value, f"{name}_")


def _inner_name(key: str) -> str:
    return label_name(f"_{key}")[1:]


def some_fields(wanted: Collection[str]) -> Stage:
    """The stage that makes labels of the fields with these names only, as if the others were not there.

    Once all are found nobody minds what follows in the line.
    """
    names = {name for label in wanted for name in (label, label.removesuffix(SUFFIX))}
    if all("_" not in name for name in names):
        return _top_level(sorted(names))
    return _by_prefix(names)


def _top_level(names: Sequence[str]) -> Stage:
    """Names without `_` can only come from keys of the outermost object that are spelled the same."""
    keys = {f"f{i}": name for i, name in enumerate(names)}
    strings = msgspec.defstruct("Strings", [(key, str | None, None) for key in keys], rename=keys, gc=False)
    decode = msgspec.json.Decoder(strings).decode
    quoted = [(name, f'"{name}"') for name in names]
    other_types = _by_prefix(names)

    def stage(line: Line) -> bool:
        text = line.text
        try:
            values = astuple(decode(text))
        except msgspec.ValidationError:  # sound JSON, but some field is no string
            return other_types(line)
        except _ERRORS:
            return _tolerant(line, names)
        if "\\" in text and "\\u" in text:
            return _filtered(line, names)
        base, labels = line.base, line.labels
        for (name, key), value in zip(quoted, values, strict=True):
            if value is not None:
                if text.count(key) > 1:
                    return _filtered(line, names)
                if name in base or name in labels or "\ufffd" in value:
                    line.add(name, value)
                else:
                    labels[name] = value
            elif key in text:  # null, or null the second time
                return _filtered(line, names)
        return True

    return stage


def _by_prefix(names: Collection[str]) -> Stage:
    """A name with `_` may also be a field of a nested object, or a key with other characters."""
    relevant: dict[str, bool] = {}

    def is_relevant(key: str) -> bool:
        name = label_name(key)
        return name in names or any(wanted.startswith(f"{name}_") for wanted in names)

    def stage(line: Line) -> bool:
        text = line.text
        try:
            found = _decode_object(text)
        except _ERRORS:
            return _tolerant(line, names)
        if "\\" in text and "\\u" in text:
            return _filtered(line, names)
        for key, value in found.items():
            known = relevant.get(key)
            if known is None:
                if len(relevant) > 10_000:
                    relevant.clear()
                known = relevant[key] = is_relevant(key)
            if known:
                raw = bytes(value)
                if raw[0] == 0x7B or text.count(f'"{key}"') > 1:
                    return _filtered(line, names)
                scalar = _scalar(raw)
                if scalar is not None and label_name(key) in names:
                    line.add(label_name(key), scalar)
        return True

    return stage


def _filtered(line: Line, names: Collection[str]) -> bool:
    """The full way, but only these names are added."""
    whole = Line(line.text, {}, {})
    all_fields(whole)
    if whole.error:
        return _tolerant(line, names)
    for name, value in whole.labels.items():
        if name in names:
            line.add(name, value)
    return True


def paths(extractions: Sequence[tuple[str, str]]) -> Stage:
    """The stage of `json label="path", ...`: a path that leads nowhere makes an empty label.

    An empty line is left as it is. Raises `ValueError` for a malformed path.
    """
    steps = [(label, parse_path(path)) for label, path in extractions]
    keys = {f'"{step}"' for _, path in steps for step in path if isinstance(step, str)}

    def stage(line: Line) -> bool:
        if not line.text:
            return True
        if line.text[0] not in _JSON_STARTS:
            line.fail(ERROR_KIND, "the line is no JSON")
            return True
        raw = b""
        if not any(line.text.count(key) > 1 for key in keys):
            with suppress(*_ERRORS):
                raw = bytes(_decode_any(line.text))
        if not raw:
            _follow_in_order(line, steps)
            return True
        for label, path in steps:
            line.add(label, _follow(raw, path))
        return True

    return stage


def _follow_in_order(line: Line, steps: Sequence[tuple[str, tuple[str | int, ...]]]) -> None:
    """What paths lead to where a key may stand twice, of which the first counts, or the line may be no sound JSON.

    Fields count up to the fault. The line is marked only if it goes wrong in a value that is asked for.
    """
    heads = {label: tuple(takewhile(lambda step: isinstance(step, str), path)) for label, path in steps}
    found: dict[tuple[str | int, ...], str] = {}
    try:
        for field, value in json_scan.fields(line.text, with_whole=True):
            found.setdefault(field, value)
            if all(head in found for head in heads.values()):
                break
    except json_scan.FaultError as error:
        if any(error.path == path for _, path in steps):
            line.fail(ERROR_KIND, str(error))
    for label, path in steps:
        value, rest = found.get(heads[label], ""), path[len(heads[label]) :]
        line.add(label, _follow(value.encode(), rest) if rest else value)


def parse_path(path: str) -> tuple[str | int, ...]:
    """The steps of `user.tags[0]["odd key"]`. Raises `ValueError`."""
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _PATH.match(path, at)
        if match is None or (at == 0 and path[0] == ".") or (at > 0 and match[1] and path[at] != "."):
            raise ValueError(f"cannot parse expression {path!r}: unexpected {path[at:]!r} (write it like user.tags[0])")
        field, index, quoted = match.groups()
        steps.append(field if field else int(index) if index else json.loads(f'"{quoted}"'))
        at = match.end()
    if not steps:
        raise ValueError("cannot parse expression: it is empty")
    return tuple(steps)


def _follow(raw: bytes, path: Sequence[str | int]) -> str:
    for step in path:
        try:
            inner: Raw | None
            if isinstance(step, int):
                array = _decode_array(raw)
                inner = array[step] if step < len(array) else None
            else:
                inner = _decode_object(raw).get(step)
        except _ERRORS:
            return ""
        if inner is None:
            return ""
        raw = bytes(inner)
    value = _scalar(raw)
    return (raw.decode() if raw[:1] in b"[{" else "") if value is None else value


def _scalar(raw: bytes) -> str | None:
    """The text of a string, number or boolean; None for null, arrays and objects."""
    first = raw[0]
    if first == 0x22:
        return _decode_string(raw) if b"\\" in raw else raw[1:-1].decode()
    return None if first in b"n[{" else raw.decode()


def unpack(line: Line) -> bool:
    """The stage of `unpack`: the string fields of a packed line become labels, its `_entry` the line."""
    if not line.text:
        return True
    try:
        pairs = json.loads(line.text, object_pairs_hook=tuple)
        if not isinstance(pairs, tuple):
            raise ValueError("the line is no JSON object")
    except _ERRORS as error:
        line.fail(ERROR_KIND, str(error))
        return True
    fields = {key: value for key, value in pairs if isinstance(value, str)}
    if PACKED_LINE in fields:
        for key, value in fields.items():
            if key != PACKED_LINE:
                line.add(label_name(key), value)
        line.text = fields[PACKED_LINE]
    return True
