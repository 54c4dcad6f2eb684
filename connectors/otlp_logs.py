"""OpenTelemetry logs over HTTP, as Loki 3 takes them: what becomes a label, what structured metadata.

A log record becomes one line: its body, as text. The resource attributes of `INDEXED` become stream labels, all other
attributes, severity, trace and scope become structured metadata of the line. Names become label names: what is no
letter or digit becomes `_`. A resource without `service.name` gets the label `service_name` from another attribute,
else `unknown_service`. Protobuf and JSON are read into the same records (`connectors._otlp`).

Mapping: https://grafana.com/docs/loki/latest/send-data/otel/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

from msgspec import Raw

from connectors import Connector, Decoded, DecodeError
from connectors._otlp import Attributes, Record, Resource, as_text, read_json, read_protobuf
from connectors._wire import media_type, unencoded
from engine.core import labels as label_sets
from engine.core.messages import LogEntry, LogStream
from engine.core.sources import SourceTiming

INDEXED = frozenset(
    {
        "service.name",
        "service.namespace",
        "service.instance.id",
        "deployment.environment",
        "deployment.environment.name",
        "cloud.region",
        "cloud.availability_zone",
        "k8s.cluster.name",
        "k8s.namespace.name",
        "k8s.pod.name",
        "k8s.container.name",
        "container.name",
        "k8s.replicaset.name",
        "k8s.deployment.name",
        "k8s.statefulset.name",
        "k8s.daemonset.name",
        "k8s.cronjob.name",
        "k8s.job.name",
    }
)
_SERVICE_FROM = frozenset({"container_name", "k8s_container_name", "k8s_job_name"})
"""Of the labels that Loki looks for a service's name in, those that `INDEXED` can give."""
_INVALID = re.compile(r"[^a-zA-Z0-9]+")
_MAX_T_NS = 2**63 - 1


def decode(body: bytes, headers: Mapping[str, str], received_ms: int) -> Decoded:
    """The log streams of an export request. A record without any time happened when it was received."""
    if not body:
        raise DecodeError("empty_body", "the body is empty; an export request of logs was expected")
    name, _ = media_type(headers)
    if name not in ("application/x-protobuf", "application/json"):
        detail = f"{headers.get('Content-Type')!r} is not supported; send application/x-protobuf or application/json"
        raise DecodeError("unsupported_content_type", detail, 415)
    plain = unencoded(body, headers, ("gzip", "deflate"))
    resources = read_json(plain) if name == "application/json" else read_protobuf(plain)
    return Decoded(streams_of(resources, received_ms))


def streams_of(resources: Iterable[Resource], received_ms: int) -> list[LogStream]:
    """The streams of some resources with their records, entries oldest first; raises `DecodeError`."""
    found: dict[bytes, list[LogEntry]] = {}
    try:
        for resource in resources:
            stream, beside = _resource(resource.attributes)
            entries = found.setdefault(stream, [])
            for scope in resource.scopes:
                common = beside | _scope(scope.attributes, scope.name, scope.version, scope.dropped)
                entries.extend(_entry(record, common, received_ms) for record in scope.records)
    except RecursionError as error:
        raise DecodeError("too_deep", "an attribute or a body is nested too deeply") from error
    for entries in found.values():
        entries.sort(key=attrgetter("t_ns"))
    return [LogStream(Raw(stream), entries) for stream, entries in found.items() if entries]


def _resource(attributes: Attributes) -> tuple[bytes, dict[str, str]]:
    """The stream's label set, and what of a resource's attributes goes beside every line."""
    labels: dict[str, str] = {}
    beside: dict[str, str] = {}
    for name, value in attributes:
        (labels if name in INDEXED else beside).update(_flat(name, value))
    if not labels.get("service_name"):
        candidates = (value for name, value in labels.items() if name in _SERVICE_FROM)
        labels["service_name"] = next(candidates, "unknown_service")
    return label_sets.encode(labels), beside


def _scope(attributes: Attributes, name: str, version: str, dropped: int) -> dict[str, str]:
    told = {"scope_name": name, "scope_version": version, "scope_dropped_attributes_count": _number(dropped)}
    return _flat_all(attributes) | {key: text for key, text in told.items() if text}


def _entry(record: Record, common: dict[str, str], received_ms: int) -> LogEntry:
    t_ns = record.time_ns or record.observed_ns or received_ms * 1_000_000
    if t_ns > _MAX_T_NS:
        raise DecodeError("invalid_time", f"times are nanoseconds since 1970 in 63 bits, got {t_ns}")
    told = {
        "observed_timestamp": _number(record.observed_ns) if record.time_ns else "",
        "severity_number": _number(record.severity_number),
        "severity_text": record.severity_text,
        "dropped_attributes_count": _number(record.dropped),
        "flags": _number(record.flags),
        "trace_id": record.trace_id,
        "span_id": record.span_id,
    }
    metadata = _flat_all(record.attributes) | {name: text for name, text in told.items() if text}
    return LogEntry(t_ns, as_text(record.body), metadata | common)


def _number(value: int) -> str:
    return str(value) if value else ""


def _flat_all(attributes: Attributes) -> dict[str, str]:
    return {name: text for key, value in attributes for name, text in _flat(key, value)}


def _flat(name: str, value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Label names and texts of an attribute; a map gives one for each of its own, with its name before it."""
    whole = label_name(f"{prefix}_{name}" if prefix else name)
    if isinstance(value, dict):
        for inner, one in value.items():
            yield from _flat(inner, one, whole)
    else:
        yield whole, as_text(value)


@lru_cache(maxsize=10_000)
def label_name(name: str) -> str:
    """An attribute's name as a label name; raises `DecodeError` for one of which nothing is left."""
    if not name:
        raise DecodeError("invalid_attribute", "an attribute has no name")
    is_reserved = len(name) >= 4 and name.startswith("__") and name.endswith("__")
    found = _INVALID.sub("_", name[2:-2] if is_reserved else name)
    found = f"__{found}__" if is_reserved else found
    if found[0].isdigit():
        found = f"key_{found}"
    if not found.strip("_"):
        raise DecodeError("invalid_attribute", f"nothing of the attribute name {name!r} can stand in a label name")
    return found


CONNECTOR = Connector(
    name="otlp_logs",
    kind="logs",
    decode=decode,
    timing=SourceTiming(lateness_ms=100, idle_after_ms=10_000),
    path="/otlp/v1/logs",
    content_types=("application/x-protobuf", "application/json"),
)
