"""Where settings come from: flags over environment over file over defaults, each value with its origin.

The layers are merged key by key (mappings are joined, lists replaced), then the schema checks the result once, so
that every mistake of every layer is reported together, each at the place where a person can mend it.

Environment variables are `SENTINEL_` and the key's path in capitals, joined by `__`:
`SENTINEL_KAFKA__URL=kafka://broker:9092`. Lists and mappings are written as YAML or JSON.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from msgspec import Struct
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from engine.core.diagnostics import Document, Problem, load_yaml
from engine.core.masking import mask_text
from engine.edge.settings import Settings

Key = tuple[str, ...]

ENV_PREFIX = "SENTINEL_"
ENV_CONFIG = "SENTINEL_CONFIG"
_NOT_SETTINGS = {ENV_CONFIG, "SENTINEL_CONFORMANCE"}  # the second says where conformance tests find their data
DEFAULT_FILE = Path("sentinel.yml")

# A Kubernetes Service called "sentinel" puts such variables into every pod of its namespace.
_SERVICE_LINK = re.compile(r"SENTINEL(_[A-Z0-9]+)*?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_.+)?)")


class SettingsError(ValueError):
    """Settings that cannot be used: `problems` in the file, `messages` about flags and environment variables."""

    def __init__(self, problems: Sequence[Problem], messages: Sequence[str] = ()) -> None:
        self.problems = sorted(problems)
        self.messages = list(messages)
        super().__init__("\n".join([*map(str, self.problems), *self.messages]))


class Origin(Struct, frozen=True):
    """Where a value comes from; `where` is "file:line", a variable's name, a flag, or "" for a default."""

    kind: Literal["default", "file", "env", "flag"]
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}".rstrip()


class Loaded(Struct, frozen=True):
    """Settings in force together with the origin of each value that is not a default."""

    settings: Settings
    origins: dict[Key, Origin]
    file: Path | None

    def origin(self, key: Key) -> Origin:
        """Origin of a value: its own, or that of the nearest list or mapping it was written in."""
        while key:
            if key in self.origins:
                return self.origins[key]
            key = key[:-1]
        return Origin("default")


class _Merge:
    """The layers taken so far, lowest first: data, the origin of each leaf, and mistakes."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origins: dict[Key, Origin] = {}
        self.problems: list[Problem] = []
        self.messages: list[str] = []
        self.document: Document | None = None

    def add(self, key: Key, value: Any, origin: Origin) -> None:
        """Put a value at a key; mappings are joined with what is there."""
        if isinstance(value, dict) and value:
            for name, child in value.items():
                self.add((*key, str(name)), child, origin)
            return
        for covered in [known for known in self.origins if known[: len(key)] == key]:
            del self.origins[covered]
        self.origins[key] = origin
        place = self.data
        for name in key[:-1]:
            inner = place.setdefault(name, {})
            if not isinstance(inner, dict):
                return  # a lower layer wrote nonsense here: leave it for the schema to report
            place = inner
        place[key[-1]] = value


def load(
    config: Path | None = None,
    flags: Sequence[tuple[str, str, str]] = (),
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """The settings in force, from every source.

    `config` is a file that must exist; without it `SENTINEL_CONFIG`, then `sentinel.yml` in the current folder if it
    is there. `flags` are (flag as written, dotted key, text). Raises `SettingsError` with all mistakes at once.
    """
    environ = environ or {}
    merge = _Merge()
    file = _config_file(config, environ)
    if file is not None:
        _add_file(merge, file)
    for name, text in sorted(environ.items()):
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS and not _SERVICE_LINK.fullmatch(name):
            key = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            _add_text(merge, key, text, Origin("env", name))
    for flag, dotted, text in flags:
        _add_text(merge, tuple(dotted.split(".")), text, Origin("flag", flag))
    settings = None
    try:
        settings = Settings.model_validate(merge.data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _report(merge, detail)
    if settings is None or merge.problems or merge.messages:
        raise SettingsError(merge.problems, merge.messages)
    return Loaded(settings, merge.origins, file)


def parse_set(text: str) -> tuple[str, str, str]:
    """A `--set key=value` as (flag, dotted key, text); raises `SettingsError` when there is no `=`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SettingsError(
            [], [f"--set {mask_text(text)}: must be KEY=VALUE, for example --set kafka.url=kafka://host:9092"]
        )
    return f"--set {key}", key, value


def _config_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = config or (Path(environ[ENV_CONFIG]) if environ.get(ENV_CONFIG) else None)
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    if not named.is_file():
        asked = "--config" if config else ENV_CONFIG
        raise SettingsError([], [f"{asked} {named}: there is no such file"])
    return named


def _add_file(merge: _Merge, file: Path) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([], [f"{file}: cannot be read: {error}"]) from error
    documents, problems = load_yaml(text, str(file))
    merge.problems.extend(problems)
    if len(documents) > 1:
        merge.problems.append(Problem(str(file), 1, 1, "must be one YAML document"))
    if not documents or documents[0].data is None:
        return
    merge.document = document = documents[0]
    if not isinstance(document.data, dict):
        merge.problems.append(document.problem((), "must be a mapping of settings, such as `kafka:`"))
        return
    _add_part(merge, document, (), document.data)


def _add_part(merge: _Merge, document: Document, key: Key, data: dict[str, Any]) -> None:
    for name, value in data.items():
        inner = (*key, name)
        if isinstance(value, dict) and value:
            _add_part(merge, document, inner, value)
        elif value is not None or not _is_section(inner):
            line, _ = document.at_key(inner)
            merge.add(inner, value, Origin("file", f"{document.file}:{line}"))


def _is_section(key: Key) -> bool:
    """Whether a key names a section; `kafka:` with nothing under it means its defaults."""
    kind = _type_at(key)
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _add_text(merge: _Merge, key: Key, text: str, origin: Origin) -> None:
    kind = _type_at(key)
    if _takes_text(kind):
        merge.add(key, text or (None if _is_optional(kind) else ""), origin)
        return
    try:
        merge.add(key, yaml.safe_load(text), origin)
    except yaml.YAMLError as error:
        merge.messages.append(f"{origin}: not valid YAML or JSON: {str(error).splitlines()[0]}")


def _takes_text(kind: Any) -> bool:
    """Whether a value is given as plain text: then "1234" stays a password and is not made a number."""
    inner = [part for part in get_args(kind) if part is not type(None)] if _is_optional(kind) else [kind]
    kind = inner[0]
    if get_origin(kind) is Literal:
        return True
    return kind in (None, str, SecretStr, Path, int, float, bool)


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) is UnionType


def _type_at(path: Sequence[int | str]) -> Any:
    """The declared type at a path, None if there is no such key."""
    kind: Any = Settings
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        elif get_origin(kind) in (dict, list):
            kind = get_args(kind)[-1]
        else:
            return None
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
    return kind


def _report(merge: _Merge, detail: ErrorDetails) -> None:
    """Say one mistake at the place it was written: the file's line and column, the variable or the flag."""
    loc = detail["loc"]
    path = tuple(part for part in loc if part != "[key]")
    message = _message(path, detail)
    key = tuple(str(part) for part in path)
    written = [origin for known, origin in merge.origins.items() if known[: len(key)] == key]
    nearest = key
    while not written and nearest:
        written = [merge.origins[nearest]] if nearest in merge.origins else []
        nearest = nearest[:-1]
    outside = [origin for origin in written if origin.kind != "file"]
    if outside or merge.document is None:
        where = str(outside[-1]) if outside else ".".join(key)
        merge.messages.append(f"{where}: {message}")
        return
    at_key = detail["type"] in ("extra_forbidden", "missing") or "[key]" in loc
    merge.problems.append(merge.document.problem(path, message, key=at_key))


def _message(path: tuple[int | str, ...], detail: ErrorDetails) -> str:
    dotted = ".".join(str(part) for part in path)
    if detail["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}{_suggestion(path)}"
    if detail["type"] == "missing":
        return f"{dotted!r} is missing"
    said = detail["msg"].removeprefix("Value error, ")
    return f"{dotted}: {said[0].lower()}{said[1:]}" if dotted else said


def _suggestion(path: tuple[int | str, ...]) -> str:
    kind = _type_at(path[:-1])
    known = list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""
