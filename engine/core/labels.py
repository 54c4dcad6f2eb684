"""Label sets, their canonical bytes, and matchers.

Label matching follows Prometheus: regular expressions are RE2, fully anchored, and a label that is absent equals the
empty string. Loki's stream selectors use the same four operators.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
import re2
from msgspec import Raw, Struct

Labels = dict[str, str]
MatchOp = Literal["=", "!=", "=~", "!~"]

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(dict[str, str])
_OPERATORS: tuple[MatchOp, ...] = ("=~", "!~", "!=", "=")
_MATCHER = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"{},]*))\s*')


def encode(labels: Mapping[str, str]) -> bytes:
    """Canonical bytes of a label set: JSON, keys sorted, labels with an empty value left out."""
    return _encoder.encode({name: value for name, value in labels.items() if value != ""})


def decode(raw: bytes | Raw) -> Labels:
    """The label set behind its bytes; raises `msgspec.ValidationError` if it is not an object of strings."""
    return _decoder.decode(raw)


def fingerprint(labels: Mapping[str, str]) -> str:
    """A stable 64-bit name of a label set, in hex."""
    return hashlib.blake2b(encode(labels), digest_size=8).hexdigest()


class Matcher(Struct, frozen=True):
    """One condition on one label, e.g. `job=~"aureus-.*"`."""

    name: str
    op: MatchOp
    value: str

    def __str__(self) -> str:
        return f"{self.name}{self.op}{msgspec.json.encode(self.value).decode()}"


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


class MatcherSet:
    """Matchers joined by *and*, compiled. Raises `ValueError` for a bad regular expression."""

    def __init__(self, matchers: Iterable[Matcher]) -> None:
        self.matchers = tuple(matchers)
        self._equal = tuple((m.name, m.value) for m in self.matchers if m.op == "=")
        self._unequal = tuple((m.name, m.value) for m in self.matchers if m.op == "!=")
        self._patterns = tuple((m.name, _compile(m), m.op == "=~") for m in self.matchers if m.op in ("=~", "!~"))

    def matches_known(self, labels: Mapping[str, str]) -> bool:
        """Whether every matcher on one of these labels holds; of labels that are not given nothing is known."""
        known = (matcher for matcher in self.matchers if matcher.name in labels)
        return all(MatcherSet([matcher])(labels) for matcher in known)

    def __call__(self, labels: Mapping[str, str]) -> bool:
        """Whether every matcher holds for the label set."""
        get = labels.get
        return (
            all(get(name, "") == value for name, value in self._equal)
            and all(get(name, "") != value for name, value in self._unequal)
            and all(
                (pattern.fullmatch(get(name, "")) is not None) == wanted for name, pattern, wanted in self._patterns
            )
        )


def _compile(matcher: Matcher) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False  # the error is raised; RE2 need not print it as well
    options.dot_nl = True
    try:
        return re2.compile(matcher.value, options)
    except re2.error as error:
        raise ValueError(f"bad regular expression in {matcher}: {error}") from error
