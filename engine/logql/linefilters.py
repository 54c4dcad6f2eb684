"""Line filters: `|= "a"`, `!~ "b|c"`, `|> "<_> 200"` and `ip()`. Regular expressions are RE2, as Loki's."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import re2

from engine.logql import tree as t
from engine.logql.pattern import parse_pattern
from engine.logql.regexes import Test, matches_somewhere

# Loki takes everything from the hint on that an address may hold, so `10.0.0.1.` at the end of a sentence is none.
_ADDRESS = re2.compile(r"\d{1,3}\.[\d.]*|(?:[0-9A-Fa-f]{1,4}:|::[0-9A-Fa-f])[0-9A-Fa-f:.]*")
_LONGEST_ADDRESS = 45


def compile_filter(node: t.LineFilter) -> Test:
    """Whether a line passes. A negative filter drops a line that matches any of its values.

    Raises `ExpressionError`.
    """
    if node.op == "!=" and len(node.values) == 1 and not node.values[0][1]:
        unwanted = node.values[0][0]
        return lambda line: unwanted not in line
    tests = [_positive(node, text, is_ip=is_ip) for text, is_ip in node.values]
    if len(tests) == 1:
        found = tests[0]
    elif node.op in ("|=", "!=") and not any(is_ip for _, is_ip in node.values):
        found = _any_substring([text for text, _ in node.values])
    else:
        found = _any(tests)
    return found if node.op.startswith("|") else _not(found)


def _positive(node: t.LineFilter, text: str, *, is_ip: bool) -> Test:
    if is_ip:
        if node.op not in ("|=", "!="):
            raise node.place.refuse(f"ip: invalid operation: {node.op} does not take ip(), only |= and != do")
        try:
            return holds_address(parse_range(text))
        except ValueError as error:
            raise node.place.refuse(str(error)) from error
    if node.op in ("|=", "!="):
        return lambda line: text in line
    if node.op in ("|~", "!~"):
        return matches_somewhere(text, node.place)
    return _fits(node, text)


def _fits(node: t.LineFilter, text: str) -> Test:
    try:
        pattern = parse_pattern(text)
    except ValueError as error:
        raise node.place.refuse(str(error)) from error
    if pattern.names:
        raise node.place.refuse(f"named captures are not allowed in a line filter: <{pattern.names[0]}> (write <_>)")
    return pattern.covers


def _any(tests: Sequence[Test]) -> Test:
    return lambda line: any(test(line) for test in tests)


def _any_substring(texts: Sequence[str]) -> Test:
    return lambda line: any(text in line for text in texts)


def _not(test: Test) -> Test:
    return lambda line: not test(line)


AddressRange = tuple[int, int, int]
"""Version, first and last address as numbers."""


def parse_range(text: str) -> AddressRange:
    """The addresses of `10.0.0.1`, `10.0.0.0/8` or `10.0.0.1-10.0.0.9`. Raises `ValueError`."""
    try:
        if "-" in text:
            first, last = (ipaddress.ip_address(part.strip()) for part in text.split("-", 1))
            if first.version != last.version or int(first) > int(last):
                raise ValueError("the range is upside down")
            return first.version, int(first), int(last)
        network = ipaddress.ip_network(text, strict=False)
        return network.version, int(network.network_address), int(network.broadcast_address)
    except ValueError as error:
        raise ValueError(f"ip: invalid pattern {text!r}: {error}") from error


def holds_address(wanted: AddressRange) -> Test:
    """Whether an address of a range stands somewhere in a text."""
    version, first, last = wanted

    def test(text: str) -> bool:
        for candidate in _ADDRESS.findall(text):
            if len(candidate) > _LONGEST_ADDRESS:
                continue
            try:
                found = ipaddress.ip_address(candidate)
            except ValueError:
                continue
            if found.version == version and first <= int(found) <= last:
                return True
        return False

    return test
