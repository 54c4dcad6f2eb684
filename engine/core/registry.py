"""A folder that is its own registry: each module in it declares one thing, in a constant of an agreed name."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Named(Protocol):
    """What a module declares."""

    @property
    def name(self) -> str:
        """Its name, unique in its folder."""


T = TypeVar("T", bound=Named)


def declared_in(package: str, path: Iterable[str], constant: str, kind: type[T], form: tuple[str, str]) -> dict[str, T]:
    """What the modules of a package declare in `constant`, by name; modules whose names begin with `_` are parts.

    `form` is the regular expression of a name, and what it asks for in words. Raises `TypeError` for a module that
    declares none or a bad one.
    """
    found: dict[str, T] = {}
    for module_info in pkgutil.iter_modules(path):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package}.{module_info.name}")
        one = getattr(module, constant, None)
        if not isinstance(one, kind):
            raise TypeError(f"{module.__name__} has no constant {constant} of type {kind.__name__}")
        if re.fullmatch(form[0], one.name) is None or one.name in found:
            raise TypeError(f"{module.__name__}: {one.name!r} is not a new name of {form[1]}")
        found[one.name] = one
    return found
