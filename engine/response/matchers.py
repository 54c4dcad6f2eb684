"""Matchers as Alertmanager writes them, read from text and compiled once."""

from __future__ import annotations

import re
from functools import lru_cache

from engine.core.labels import Matcher, MatcherSet, MatchOp

_OPERATORS: tuple[MatchOp, ...] = ("=~", "!~", "!=", "=")
_MATCHER = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"{},]*))\s*')


def parse_matcher(text: str) -> Matcher:
    """A matcher as Alertmanager writes it: `job="a"`, `job!="a"`, `job=~"a.*"`, `job!~"a.*"`. Raises `ValueError`."""
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f'not a matcher: {text!r} (write it like severity="critical" or job=~"aureus-.*")')
    op = next(known for known in _OPERATORS if known == found[2])
    quoted = found[3]
    value = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], quoted) if quoted is not None else found[4]
    if quoted is not None and op in ("=~", "!~"):
        value = re.sub(r'\\(["\\])', r"\1", quoted)
    return Matcher(found[1], op, value)


@lru_cache(maxsize=4096)
def matcher_set(matchers: tuple[Matcher, ...]) -> MatcherSet:
    """The matchers joined by *and*, compiled once however often they are asked for. Raises `ValueError`."""
    return MatcherSet(matchers)
