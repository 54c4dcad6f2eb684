"""The settings of the sources: who may push, what is read, and how Sentinel authenticates where it reads.

Keys of a scrape job that Prometheus has as well have its names and meaning, so that a job can be carried over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from connectors._records import Format
from connectors._relabel import Action, Step
from engine.edge.settings_base import HttpUrl, Milliseconds, PositiveSeconds, Section


def _without_user(value: str) -> str:
    if "@" in urlsplit(value).netloc:
        raise ValueError("must not hold a user or password: a URL is shown in logs; give basic_auth")
    return value


SourceUrl = Annotated[HttpUrl, AfterValidator(_without_user)]


class PushedLogs(Section):
    """How far lines that are pushed may be out of order."""

    lateness_ms: Milliseconds = Field(
        default=100, description="How far out of order lines may arrive; later ones are counted and dropped."
    )
    idle_after_ms: Milliseconds = Field(
        default=10_000, description="A source quiet for this long no longer holds the watermark back."
    )


class LokiPush(PushedLogs):
    """The receiver of Loki's push API."""

    enabled: bool = Field(default=True, description="Serve `/loki/api/v1/push`.")


class OtlpLogs(PushedLogs):
    """The receiver of OpenTelemetry logs over HTTP, as Loki has it."""

    enabled: bool = Field(default=True, description="Serve `/otlp/v1/logs`.")


class RemoteWrite(Section):
    """The receiver of Prometheus remote write."""

    enabled: bool = Field(default=True, description="Serve `/api/v1/write`.")
    lateness_ms: Milliseconds = Field(
        default=6_000,
        description="How far out of order samples may arrive; later ones are counted and dropped. A default "
        "Prometheus holds samples back for 5 s (`batch_send_deadline`); where that is 500ms, 1000 will do.",
    )
    idle_after_ms: Milliseconds = Field(
        default=60_000, description="A source quiet for this long no longer holds the watermark back."
    )
    settle_ms: Milliseconds = Field(
        default=10_000,
        description="After a start, a failure and while requests hold samples older than lateness_ms, the watermark "
        "waits this long for the sender's other shards; more than its `max_backoff` (5 s). 0 for a sender with one "
        "shard (`max_shards: 1`), which keeps order.",
    )


class AlertmanagerReceiver(Section):
    """The receiver of alerts that others raise, in the API of Alertmanager: Prometheus, vmalert, Loki's ruler."""

    enabled: bool = Field(default=True, description="Serve `/api/v2/alerts`.")
    resolve_timeout_s: PositiveSeconds = Field(
        default=300, description="An alert posted without `endsAt` is taken to end so long after its last post."
    )
    window_ms: Milliseconds = Field(
        default=60_000,
        description="How long after a repair the sender's rules may take to show it: its evaluation interval and the "
        "range of its expressions.",
    )


class BasicAuth(Section):
    """A user and a password; the password by value, environment variable or file."""

    username: str = Field(default="", description="User; empty: no basic authentication.")
    password: SecretStr = Field(default=SecretStr(""), description="Password.")
    password_env: str = Field(default="", description="Environment variable that holds the password.")
    password_file: Path | None = Field(default=None, description="File that holds the password; read at every request.")


class TlsClient(Section):
    """TLS towards a server."""

    ca_file: Path | None = Field(default=None, description="PEM file of the authorities to trust; empty: the system's.")
    cert_file: Path | None = Field(default=None, description="PEM client certificate, for mutual TLS.")
    key_file: Path | None = Field(default=None, description="PEM key of the client certificate.")
    insecure_skip_verify: bool = Field(default=False, description="Do not check the server's certificate.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file are only useful together")
        return self


class HttpAccess(Section):
    """How Sentinel authenticates where it reads."""

    basic_auth: BasicAuth = Field(default=BasicAuth(), description="User and password.")
    bearer_token: SecretStr = Field(default=SecretStr(""), description="Bearer token.")
    bearer_token_env: str = Field(default="", description="Environment variable that holds the bearer token.")
    bearer_token_file: Path | None = Field(
        default=None, description="File that holds the bearer token; read at every request."
    )
    headers: dict[str, SecretStr] = Field(default={}, description="Further request headers.")
    tls: TlsClient = Field(default=TlsClient(), description="TLS.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        bearer = (self.bearer_token.get_secret_value(), self.bearer_token_env, self.bearer_token_file)
        password = (self.basic_auth.password.get_secret_value(), self.basic_auth.password_env)
        if sum(map(bool, [*bearer, self.basic_auth.username])) > 1:
            raise ValueError("give one of basic_auth, bearer_token, bearer_token_env and bearer_token_file")
        if sum(map(bool, [*password, self.basic_auth.password_file])) > 1:
            raise ValueError("give one of password, password_env and password_file")
        return self


class Relabel(Section):
    """One relabelling step, as in Prometheus."""

    source_labels: list[str] = Field(default=[], description="Labels whose values are joined.")
    separator: str = Field(default=";", description="What joins them.")
    regex: str = Field(default="(.*)", description="RE2 that must match the whole of the joined values.")
    modulus: Annotated[int, Field(ge=0)] = Field(default=0, description="Number of shards, for `hashmod`.")
    target_label: str = Field(default="", description="The label that is set or compared.")
    replacement: str = Field(default="$1", description="Its new value, with the groups of `regex`.")
    action: Action = Field(default="replace", description="What is done.")

    @model_validator(mode="after")
    def _works(self) -> Self:
        self.step()
        return self

    def step(self) -> Step:
        """The step; raises `ValueError` if it could never work."""
        return Step(**self.model_dump())


class StaticTargets(Section):
    """Addresses that are known beforehand."""

    targets: list[str] = Field(description="Addresses, `host:port`.")
    labels: dict[str, str] = Field(default={}, description="Labels of these targets.")


class FileDiscovery(Section):
    """Files that list targets, in Prometheus's `file_sd` format; read again when they change."""

    files: list[str] = Field(
        min_length=1, description="Paths of JSON or YAML files; the last part may be a pattern, such as `*.json`."
    )
    refresh_s: PositiveSeconds = Field(default=5, description="How often to look whether a file has changed.")


class ScrapeJob(HttpAccess):
    """Pages in Prometheus's formats to read: one by `url`, or many by addresses."""

    job: str = Field(min_length=1, description="Value of the `job` label.")
    url: SourceUrl = Field(default="", description="One page, for example `http://bridge:8080/metrics`.")
    static_configs: list[StaticTargets] = Field(default=[], description="Addresses.")
    file_sd_configs: list[FileDiscovery] = Field(default=[], description="Files with addresses.")
    scheme: Literal["http", "https"] = Field(default="http", description="How addresses are read.")
    metrics_path: str = Field(default="/metrics", pattern="^/", description="Where the page is, at an address.")
    params: dict[str, list[str]] = Field(default={}, description="Parameters of the URL.")
    interval_s: PositiveSeconds = Field(default=15, description="Time between two reads.")
    timeout_s: PositiveSeconds = Field(default=10, description="Longest read; no longer than the interval.")
    labels: dict[str, str] = Field(default={}, description="Labels added to every series.")
    honor_labels: bool = Field(
        default=False, description="Labels on the page win over the target's; else they become `exported_...`."
    )
    honor_timestamps: bool = Field(default=True, description="Samples keep the time that the page gives them.")
    sample_limit: Annotated[int, Field(ge=0)] = Field(
        default=0, description="A page with more samples fails as a whole; 0: no limit."
    )
    relabel_configs: list[Relabel] = Field(default=[], description="Steps over the labels of a target.")
    metric_relabel_configs: list[Relabel] = Field(default=[], description="Steps over the labels of every series.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.timeout_s > self.interval_s:
            raise ValueError(f"timeout_s {self.timeout_s:g} is longer than interval_s {self.interval_s:g}")
        if not (self.url or self.static_configs or self.file_sd_configs):
            raise ValueError("give url, static_configs or file_sd_configs")
        return self


class PrometheusApi(HttpAccess):
    """A Prometheus that can only be queried. Exactly what the rules read is asked for."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$", description="Name of the source.")
    url: SourceUrl = Field(min_length=1, description="Base URL, for example `http://prometheus:9090`.")
    interval_s: PositiveSeconds = Field(default=15, description="Time between two polls.")
    settle_s: Annotated[float, Field(ge=0)] = Field(
        default=5,
        description="Asked is up to so long ago: by then every sample must be visible there. More than the longest "
        "scrape of that Prometheus; alerts come later by as much.",
    )
    timeout_s: PositiveSeconds = Field(default=30, description="Longest query.")
    match: list[str] = Field(default=[], description='Further matchers for everything asked, such as `cluster="eu"`.')
    history_chunk_s: PositiveSeconds = Field(
        default=600, description="What rules look back is filled at the start in pieces of so long."
    )


class LokiApi(HttpAccess):
    """A Loki that is read: its tail brings lines early, queries see to it that none is missing or double."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$", description="Name of the source.")
    url: SourceUrl = Field(min_length=1, description="Base URL, for example `http://loki:3100`.")
    tenant: str = Field(default="", description="`X-Scope-OrgID`; empty: none is sent.")
    selectors: list[str] = Field(
        default=[], description='Stream selectors to read, such as `{namespace="shop"}`; empty: those of the log rules.'
    )
    tail: bool = Field(default=True, description="Follow the tail (websocket); without it there are queries alone.")
    interval_s: PositiveSeconds = Field(default=1, description="Time between two checks that every line was taken.")
    lateness_ms: Milliseconds = Field(
        default=2_000,
        description="How long after its own time a line may come into Loki: an agent holds lines back for about a "
        "second. Alerts come later by as much; lines that come later still are counted and dropped.",
    )
    settle_ms: Milliseconds = Field(
        default=10_000,
        description="After Loki was away its agents send what they held back: for so long the watermark waits.",
    )
    timeout_s: PositiveSeconds = Field(default=30, description="Longest query.")
    page_lines: Annotated[int, Field(ge=100)] = Field(
        default=5_000, description="Lines of one answer; no more than Loki's `max_entries_limit_per_query`."
    )
    history_chunk_s: PositiveSeconds = Field(
        default=600, description="What rules look back is filled at the start in pieces of so long."
    )


class RecordFields(Section):
    """Which fields of a JSON record mean what; inner ones are written `kubernetes.pod_name`."""

    line: str = Field(default="", description="The line; empty: `message`, `log` or `line`, as the format has it.")
    time: str = Field(
        default="", description="Its time; empty: `timestamp`, `@timestamp` or `ts`, as the format has it."
    )
    labels: dict[str, str] = Field(default={}, description="Stream labels, each with the field it comes from.")
    label_object: str = Field(
        default="", description="An object whose fields all become stream labels; empty: for `promtail` its `labels`."
    )


class LogTopic(Section):
    """A Kafka topic of log records that somebody else fills."""

    topic: str = Field(pattern=r"^[a-zA-Z0-9._-]+$", description="Name of the topic, whole.")
    url: str = Field(
        default="",
        description="Bootstrap servers, `kafka://host:9092`, with the same `kafka.security`; empty: Sentinel's own.",
    )
    format: Format = Field(
        description="`vector`, `fluent_bit`, `promtail`, `loki_json`, `otlp_proto`, `otlp_json`, or `plain` lines."
    )
    fields: RecordFields = Field(default=RecordFields(), description="Fields of the JSON formats.")
    static_labels: dict[str, str] = Field(
        default={}, description="Stream labels of every line; none, and none of the record: `topic` with its name."
    )
    group: str = Field(
        default="sentinel-log-topics",
        min_length=1,
        description="Consumer group: its committed offsets say what is done.",
    )
    start: Literal["latest", "earliest"] = Field(default="latest", description="Where a group without offsets begins.")
    lateness_ms: Milliseconds = Field(
        default=2_000, description="How far out of order the lines of a partition may be; later ones are dropped."
    )


class ConnectorSettings(Section):
    """Where metrics and logs come from."""

    loki_push: LokiPush = Field(default=LokiPush(), description="Loki push receiver.")
    otlp_logs: OtlpLogs = Field(default=OtlpLogs(), description="Receiver of OpenTelemetry logs.")
    remote_write: RemoteWrite = Field(default=RemoteWrite(), description="Prometheus remote-write receiver.")
    alertmanager: AlertmanagerReceiver = Field(
        default=AlertmanagerReceiver(), description="Receiver of alerts in Alertmanager's API."
    )
    scrape: list[ScrapeJob] = Field(default=[], description="Pages that Sentinel reads itself.")
    prometheus_api: list[PrometheusApi] = Field(default=[], description="Prometheus servers that Sentinel queries.")
    loki: list[LokiApi] = Field(default=[], description="Loki servers that Sentinel reads.")
    log_topics: list[LogTopic] = Field(default=[], description="Kafka topics of logs that somebody else fills.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("scrape", "job", [one.job for one in self.scrape if one.static_configs or one.file_sd_configs])
        _unique("prometheus_api", "name", [one.name for one in self.prometheus_api])
        _unique("loki", "name", [one.name for one in self.loki])
        _unique("log_topics", "topic", [one.topic for one in self.log_topics])
        return self


def _unique(section: str, key: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{section}: {key} {', '.join(twice)} stands twice")
