"""What to scrape: from a job and the addresses found for it to targets with their final labels and URL.

As in Prometheus, everything about a target is a label until relabelling is over: `__address__`, `__scheme__`,
`__metrics_path__` and `__param_<name>` make the URL, `__meta_*` is what a discovery knows; what begins with two
underscores is then taken off, and `instance` is the address unless something else was set.

    address, labels of its group  --defaults of the job-->  labels  --relabel_configs-->  Target(labels, url) or None
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import yaml
from msgspec import Struct

from connectors._relabel import Step, relabel
from engine.core.labels import Labels

DEFAULT_PORTS = {"http": 80, "https": 443}


class TargetGroup(Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses (`host:port`) that share labels: an entry of a `file_sd` file or of `static_configs`."""

    targets: list[str]
    labels: dict[str, str] = {}


@dataclass(frozen=True)
class Job:
    """What the targets of a job have in common, unless a label says otherwise."""

    name: str
    scheme: str = "http"
    metrics_path: str = "/metrics"
    params: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[Step] = ()


@dataclass(frozen=True)
class Target:
    """One page to read: where it is, and the labels that its series get."""

    labels: Labels
    url: str


def read_groups(text: str, path: str) -> list[TargetGroup]:
    """The groups of a `file_sd` file, JSON or YAML; each knows the file (`__meta_filepath`).

    Raises `ValueError` that says what is wrong; then nothing of the file is to be used.
    """
    try:
        groups = msgspec.convert(yaml.safe_load(text) or [], list[TargetGroup])
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is neither JSON nor YAML: {error}") from error
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is not a list of target groups: {error}") from error
    return [msgspec.structs.replace(group, labels={**group.labels, "__meta_filepath": path}) for group in groups]


def from_url(job: Job, url: str) -> tuple[Job, str]:
    """The job and the address of a target that is written as one URL. The port is always in the address."""
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    params = {**job.params, **parse_qs(parts.query, keep_blank_values=True)}
    return replace(job, scheme=parts.scheme, metrics_path=parts.path or "/", params=params), f"{host}:{port}"


def resolve(job: Job, address: str, labels: Mapping[str, str]) -> Target | None:
    """The target at an address, None if relabelling drops it. Raises `ValueError` where the address is of no use."""
    params = {f"__param_{name}": values[0] for name, values in job.params.items() if values}
    known = {"job": job.name, "__scheme__": job.scheme, "__metrics_path__": job.metrics_path, **params}
    found = relabel({**known, **job.labels, **labels, "__address__": address}, job.steps)
    if found is None:
        return None
    url = _url(job, found)
    found.setdefault("instance", found["__address__"])
    return Target({name: value for name, value in found.items() if not name.startswith("__")}, url)


def targets(job: Job, groups: Sequence[TargetGroup]) -> tuple[list[Target], list[str]]:
    """The targets of some groups, each once, in order; and what is wrong with the others."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Target] = {}
    problems = []
    for group in groups:
        for address in group.targets:
            try:
                target = resolve(job, address, group.labels)
            except ValueError as error:
                problems.append(str(error))
                continue
            if target is not None:
                found.setdefault((target.url, tuple(sorted(target.labels.items()))), target)
    return list(found.values()), problems


def _url(job: Job, labels: Labels) -> str:
    address, scheme = labels.get("__address__", ""), labels.get("__scheme__", "")
    if not address or "/" in address or "@" in address:
        raise ValueError(f"{address!r} is no address; host:port is expected, in a target of job {job.name}")
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"{scheme!r} is no scheme; http or https is expected, for {address} of job {job.name}")
    params = {name: list(values) for name, values in job.params.items()}
    for label, value in labels.items():
        if label.startswith("__param_"):
            name = label.removeprefix("__param_")
            params[name] = [value, *params.get(name, [])[1:]]
    query = urlencode(params, doseq=True)
    return f"{scheme}://{address}{labels.get('__metrics_path__', '')}" + (f"?{query}" if query else "")
