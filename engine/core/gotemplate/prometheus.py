"""Templates of Prometheus and Loki rule files: labels and annotations of alerts.

`compile_template` parses once, at load; `Template.expand` fills in one alert. Functions and variables are those of
Prometheus's template reference; a label that is missing is the empty string.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from engine.core import duration
from engine.core.gotemplate import humanize, regexes
from engine.core.gotemplate.builtins import BUILTINS
from engine.core.gotemplate.escaping import query_escape
from engine.core.gotemplate.execution import Program, Write, compile_tree
from engine.core.gotemplate.frame import UNSET, Frame
from engine.core.gotemplate.functions import Functions, function
from engine.core.gotemplate.parser import parse
from engine.core.gotemplate.queries import Notice, find_queries
from engine.core.gotemplate.times import Duration
from engine.core.gotemplate.values import AnyMap, Html, Struct, TemplateError, Value, clean
from engine.core.gotemplate.wordcase import lower, title_of_words, upper
from engine.core.labels import Labels

Query = Callable[[str], list[tuple[Labels, float]]]

VARIABLES = ("$labels", "$externalLabels", "$externalURL", "$value")
_DATA = "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"


@dataclass(frozen=True, slots=True)
class Context:
    """What the functions of one expansion may ask for. `now_ms` is the time of the evaluation."""

    external_url: str = ""
    query: Query | None = None
    now_ms: int | None = None


class Samples(list[Struct]):
    """The result of `query`."""

    go_type = "template.queryResult"


@dataclass(frozen=True)
class Template:
    """A compiled template.

    `queries` are the PromQL texts that it can ask `query` for, as far as they can be told: the text itself, or one that
    selects at least as much. `notices` say which cannot, with the place.
    """

    source: str
    queries: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()
    program: Program | None = field(default=None, repr=False, compare=False)
    write: Write | None = field(default=None, repr=False, compare=False)
    slots: int = field(default=0, repr=False, compare=False)

    def expand(
        self,
        labels: Mapping[str, str],
        value: float,
        external_labels: Mapping[str, str] | None = None,
        *,
        external_url: str = "",
        query: Query | None = None,
        now_ms: int | None = None,
    ) -> str:
        """The text for an alert with these labels and this value.

        `query` answers the template's queries; what it raises as `TemplateError` makes the expansion fail. What cannot
        be expanded becomes `<error expanding template: ...>`, as in Prometheus: an alert is not lost over its
        description.
        """
        if self.program is None or self.write is None:
            return self.source
        external = external_labels or {}
        value = float(value)  # a numpy float would have no Go type
        fields = {"Labels": labels, "ExternalLabels": external, "ExternalURL": external_url, "Value": value}
        dot = Struct(_DATA, fields)
        slots = [dot, labels, external, external_url, value] + [UNSET] * (self.slots - 1 - len(VARIABLES))
        frame = Frame(self.program, Context(external_url, query, now_ms), slots)
        try:
            return clean(self.write(dot, frame))
        except TemplateError as error:
            return f"<error expanding template: {clean(str(error))}>"


def compile_template(source: str) -> Template:
    """Compile a template. Raises `ExpressionError` with the place of what Go's parser would refuse."""
    if "{{" not in source:
        return Template(source)
    tree = parse(source, FUNCTIONS, VARIABLES)
    queries, notices = find_queries(tree)
    program, write = compile_tree(tree, FUNCTIONS)
    return Template(source, queries, notices, program, write, tree.main.slots)


def _query(frame: Frame, text: str) -> Samples:
    if frame.context.query is None:
        raise TemplateError("there is no database here to query")
    rows: Sequence[tuple[Labels, float]] = frame.context.query(text)
    return Samples(
        Struct("template.sample", {"Labels": dict(labels), "Value": float(value)}, True) for labels, value in rows
    )


def _first(samples: Samples | None) -> Struct:
    if not samples:
        raise TemplateError("first() called on vector with no elements")
    return samples[0]


def _sample(sample: Struct | None) -> Mapping[str, Value]:
    if sample is None:
        raise TemplateError("invalid memory address or nil pointer dereference")
    return sample.fields


def _now(frame: Frame) -> float:
    if frame.context.now_ms is None:
        raise TemplateError("there is no time here")
    return float(frame.context.now_ms / 1000)


def _split_host_port(text: str) -> tuple[str, str] | None:
    """Host and port of `host:port` or `[v6]:port`; None if it is not of this form (Go's `net.SplitHostPort`)."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return None
    if text.startswith("["):
        end = text.find("]")
        if end != len(host) - 1 or "[" in text[1:] or "]" in text[end + 1 :]:
            return None
        return text[1:end], port
    return None if any(sign in host + port for sign in ":[]") else (host, port)


def strip_port(text: str) -> str:
    """The host of `host:port`; the text itself if it is not of this form."""
    parts = _split_host_port(text)
    return text if parts is None else parts[0]


def strip_domain(text: str) -> str:
    """A host name without its domain, the port kept; an IP address stays as it is."""
    host, port = _split_host_port(text) or (text, "")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        host = host.split(".")[0]
        if not port:
            return host
        return f"[{host}]:{port}" if ":" in host or "%" in host else f"{host}:{port}"
    return text


def _parse_duration(text: str) -> float:
    sign = -1 if text.startswith("-") else 1
    try:
        return sign * duration.parse_ms(text.removeprefix("-")) / 1000
    except ValueError as error:
        raise TemplateError(str(error)) from None


def _to_duration(value: Value) -> Duration:
    ns = humanize.to_float(value) * 1e9
    if not -(2.0**63) <= ns < 2.0**63:
        raise TemplateError(f"{ns / 1e9:g} seconds are more than a duration can hold")
    return Duration(int(ns))


def _link(tab: int) -> Callable[[str], str]:
    return lambda expression: f"/graph?g0.expr={query_escape(expression)}&g0.tab={tab}"


def _by_label(label: str, samples: Samples | None) -> Samples:
    return Samples(sorted(samples or (), key=lambda sample: sample.fields["Labels"].get(label, "")))


FUNCTIONS: Functions = {
    **BUILTINS,
    "query": function(_query, "string", takes_context=True),
    "first": function(_first, "template.queryResult"),
    "label": function(lambda label, sample: _sample(sample)["Labels"].get(label, ""), "string *template.sample"),
    "value": function(lambda sample: _sample(sample)["Value"], "*template.sample"),
    "strvalue": function(lambda sample: _sample(sample)["Labels"].get("__value__", ""), "*template.sample"),
    "sortByLabel": function(_by_label, "string template.queryResult"),
    "args": function(lambda *values: AnyMap((f"arg{i}", value) for i, value in enumerate(values)), "...any"),
    "tmpl": function(lambda frame, name, dot: Html(frame.run(name, dot)), "string any", takes_context=True),
    "humanize": function(humanize.humanize, "any"),
    "humanize1024": function(humanize.humanize_1024, "any"),
    "humanizeDuration": function(humanize.humanize_duration, "any"),
    "humanizePercentage": function(humanize.humanize_percentage, "any"),
    "humanizeTimestamp": function(humanize.humanize_timestamp, "any"),
    "toTime": function(humanize.to_time, "any"),
    "toDuration": function(_to_duration, "any"),
    "parseDuration": function(_parse_duration, "string"),
    "now": function(_now, takes_context=True),
    "match": function(regexes.is_match, "string string"),
    "reReplaceAll": function(regexes.replace_all, "string string string"),
    "title": function(title_of_words, "string"),
    "toUpper": function(upper, "string"),
    "toLower": function(lower, "string"),
    "stripPort": function(strip_port, "string"),
    "stripDomain": function(strip_domain, "string"),
    "safeHtml": function(Html, "string"),
    "urlQueryEscape": function(query_escape, "string"),
    "graphLink": function(_link(0), "string"),
    "tableLink": function(_link(1), "string"),
    "pathPrefix": function(lambda frame: urlsplit(frame.context.external_url).path, takes_context=True),
    "externalURL": function(lambda frame: str(frame.context.external_url), takes_context=True),
}
