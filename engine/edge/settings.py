"""The one settings schema: every key Sentinel has, its type, default and meaning.

Each role reads its part of one `Settings` tree; nothing else in the program reads files or environment
variables for configuration. Where values come from (flags, environment, file, defaults) is the subject of
`settings_load`; the reference page `docs/settings.md` is generated from the descriptions by `settings_doc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from engine.actions._compose import PROJECT_NAME
from engine.core.labels import MatcherSet, parse_matcher
from engine.edge.settings_base import (
    Endpoint,
    HttpUrl,
    ListenAddress,
    Milliseconds,
    Positive,
    PositiveSeconds,
    PostgresUrl,
    Section,
)
from engine.edge.settings_notify import NotifySettings
from engine.edge.settings_response import MaintenanceWindow
from engine.edge.settings_sources import ConnectorSettings
from engine.response.guardrails import PRODUCTION

Mode = Literal["observe", "approve", "auto"]


def _is_matcher(text: str) -> str:
    MatcherSet([parse_matcher(text)])
    return text


Matchers = list[Annotated[str, AfterValidator(_is_matcher)]]


class LogSettings(Section):
    """What the process writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Lowest level written.")
    format: Literal["json", "console"] = Field(
        default="json",
        description="`json`: one object per line, for machines; `console`: for a person at a terminal.",
    )


class KafkaSecurity(Section):
    """How to authenticate to Kafka."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Kafka's `security.protocol`."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="Used when the protocol is a SASL one."
    )
    sasl_username: str = Field(default="", description="SASL user.")
    sasl_password: SecretStr = Field(default=SecretStr(""), description="SASL password; best given by environment.")
    ca_file: Path | None = Field(default=None, description="PEM file of the authorities to trust; empty: the system's.")
    cert_file: Path | None = Field(default=None, description="PEM client certificate, for mutual TLS.")
    key_file: Path | None = Field(default=None, description="PEM key of the client certificate.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password.get_secret_value()):
            raise ValueError(f"protocol {self.protocol} needs sasl_username and sasl_password")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file are only useful together")
        return self


class KafkaSettings(Section):
    """The broker all agents meet on."""

    url: str = Field(
        default="",
        description="Bootstrap servers, `kafka://host:9092[,host2:9092]`; empty: the embedded broker, "
        "which keeps nothing after the process ends and is for trying and testing.",
    )
    topic_prefix: str = Field(
        default="sentinel-", pattern=r"^[a-zA-Z0-9._-]*$", description="Put before every topic name."
    )
    partitions: Positive = Field(default=4, description="Partitions of each topic that Sentinel creates.")
    replication: Positive = Field(default=1, description="Copies of each topic that Sentinel creates.")
    retention_hours: Positive = Field(
        default=168, description="How long topics keep messages; bounds what replay can reach."
    )
    session_timeout_s: PositiveSeconds = Field(
        default=10, description="A worker silent for this long loses its partitions to others."
    )
    fetch_wait_ms: Milliseconds = Field(
        default=100, description="Longest wait of the broker for data on an empty fetch."
    )
    security: KafkaSecurity = Field(default=KafkaSecurity(), description="TLS and SASL.")


class DatabaseSettings(Section):
    """Where incidents, claims, approvals and the audit chain live."""

    url: PostgresUrl = Field(
        default="",
        description="`postgresql://user:password@host/database`; empty: the embedded one in state_dir.",
    )
    pool_size: Positive = Field(default=8, description="Most connections a role keeps open.")


class HttpSettings(Section):
    """The one listener: receivers, console, JSON API, /metrics, /health, /ready."""

    listen: ListenAddress = Field(default="127.0.0.1:9560", description="host:port; port 0 takes a free one.")
    max_body_bytes: Positive = Field(
        default=16 * 1024 * 1024, description="Larger request bodies are answered with 413."
    )
    external_url: HttpUrl = Field(
        default="",
        description="How people reach the console, for links and the Origin check; empty: from `listen`.",
    )

    @property
    def host(self) -> str:
        """Host part of `listen`, without the brackets of an IPv6 address."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port part of `listen`."""
        return int(self.listen.rpartition(":")[2])


class RuleSettings(Section):
    """Which rules run and how they are spread."""

    paths: list[Path] = Field(default=[Path("rules")], description="Files and folders of rules and runbooks.")
    shards: Positive = Field(
        default=8, description="Rule groups are spread over so many shards; the unit of scale-out."
    )
    source_idle_ms: Milliseconds = Field(
        default=300_000,
        description="A source that nothing was heard of for this long, not even a heartbeat, no longer holds back the "
        "watermark of the rules that read it; what it sends then comes too late for them.",
    )
    eager_per_s: Annotated[int, Field(ge=0)] = Field(
        default=20,
        description="Most evaluations per second and rule at events' own times; 0: at intervals only.",
    )
    eager_grid_ms: Positive = Field(default=50, description="Events this close together share one eager evaluation.")
    external_labels: dict[str, str] = Field(
        default={}, description="`$externalLabels` of rule templates; added to what is sent to other systems."
    )
    keep: list[str] = Field(
        default=[],
        description="PromQL selectors, such as `up[1h]`, whose data is held for queries though no rule reads it.",
    )
    watch_s: Annotated[float, Field(ge=0)] = Field(
        default=5,
        description="How often the files are looked at for changes; 0: only SIGHUP loads them again.",
    )


class ModeOverride(Section):
    """A mode for some commands; an empty field matches everything, the first match decides."""

    action: str = Field(default="", description="Name of the action, for example `http.request`.")
    severity: str = Field(default="", description="Severity of the alert.")
    namespace: str = Field(
        default="",
        description="Namespace of the alert's label or of the target; the strictest mode of both holds.",
    )
    match: Matchers = Field(
        default=[], description='Matchers on the alert\'s labels, such as `env="production"`; all must hold.'
    )
    mode: Mode = Field(description="What happens to such a command.")


class Host(Section):
    """An HTTP service that may be called, with the bearer token to use."""

    url: HttpUrl = Field(min_length=1, description="Base URL; nothing outside it is called.")
    token: SecretStr = Field(default=SecretStr(""), description="Bearer token.")
    token_env: str = Field(default="", description="Environment variable that holds the bearer token.")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token_env and self.token.get_secret_value():
            raise ValueError("give token or token_env, not both")
        return self

    def bearer(self, environ: Mapping[str, str]) -> str:
        """The token in force, "" if none; raises `ValueError` when `token_env` names no variable."""
        if self.token_env and self.token_env not in environ:
            raise ValueError(f"token_env names {self.token_env}, which is not set in the environment")
        return environ[self.token_env] if self.token_env else self.token.get_secret_value()


class Kubernetes(Section):
    """A cluster, and how it is reached."""

    kubeconfig: Path | None = Field(
        default=None, description="Kubeconfig file; empty: the service account of the pod that this process runs in."
    )
    context: str = Field(default="", description="Context of the file; empty: its current one.")
    timeout_s: PositiveSeconds = Field(default=10, description="Longest time that a request may take.")


class ResponderSettings(Section):
    """What is decided about an alert, and how far Sentinel may go alone."""

    mode: Mode = Field(
        default="approve",
        description="`observe`: only say what would be done; `approve`: a person must agree; `auto`.",
    )
    overrides: list[ModeOverride] = Field(
        default=[], description="Modes of particular commands; the first match decides."
    )
    approval_expiry_s: PositiveSeconds = Field(default=900, description="An approval not given by then is a refusal.")
    four_eyes: list[Literal["P0", "P1", "P2", "P3"]] = Field(
        default=[], description="Priorities at which nothing is done before two different people have agreed."
    )
    production: Matchers = Field(
        default=list(PRODUCTION),
        description="Matchers on an alert's labels; where one holds, only an override with `match` can make it `auto`.",
    )
    flap_repairs: Positive = Field(
        default=3, description="The same repair is made so often in a day; after that a person must agree."
    )
    databases: dict[str, PostgresUrl] = Field(
        default={}, description="Databases that investigations read, by name; use a role that can only read."
    )
    query_url: HttpUrl = Field(
        default="", description="Prometheus that investigations may query; empty: only own windows."
    )
    loki: Endpoint | None = Field(default=None, description="Loki that investigations may query; empty: none.")
    hosts: dict[str, Host] = Field(default={}, description="HTTP services that investigations may read, by name.")
    namespaces: list[str] = Field(
        default=[], description="Kubernetes namespaces that investigations may read; empty: none."
    )
    kubernetes: Kubernetes = Field(default=Kubernetes(), description="The cluster of these namespaces.")
    storm_targets: Positive = Field(
        default=5,
        description="When more targets than this fail within storm_window_s, every command waits for a person.",
    )
    storm_window_s: PositiveSeconds = Field(default=60, description="Window of the storm brake.")
    storm_settle_s: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0,
        description="Nothing is done or asked for before an alert has fired this long, so that in a storm the first "
        "few wait too.",
    )
    account_to: str = Field(default="", description="Whom to tell what each day came to; empty: it is only kept.")
    maintenance: list[MaintenanceWindow] = Field(
        default=[], description="Windows of planned work; further ones with `sentinel silence add --maintenance`."
    )
    private_key_file: Path | None = Field(
        default=None,
        description="PEM file of the Ed25519 key that signs commands; empty: one kept in state_dir.",
    )


class Compose(Section):
    """A Docker Compose project whose services may be changed."""

    files: list[Path] = Field(min_length=1, description="Its Compose files, in their order.")
    docker_host: str = Field(
        default="",
        description="`DOCKER_HOST` of its engine, such as `unix:///run/docker.sock`; empty: what `docker` itself uses.",
    )


ComposeName = Annotated[str, Field(pattern=rf"^{PROJECT_NAME}$")]


class Kms(Section):
    """An alias of AWS KMS whose key may be changed. Credentials are had as AWS's own tools have them."""

    alias: str = Field(pattern=r"^alias/[a-zA-Z0-9/_-]+$", description="E.g. `alias/bridge-signing`.")
    region: str = Field(pattern=r"^[a-z0-9-]+$", description="Region of its key, e.g. `eu-central-1`.")
    endpoint_url: HttpUrl = Field(default="", description="Address of KMS; empty: the public one of the region.")


class BlastRadiusSettings(Section):
    """How much of a fleet is acted on without a person: of the workloads of a namespace, the pods of a workload, the
    services of a Compose project.
    """

    share: Annotated[float, Field(ge=0, le=1)] = Field(default=0.3, description="Share of a fleet, rounded down.")
    at_least: Positive = Field(default=1, description="So many may be acted on however small the fleet is.")
    window_s: PositiveSeconds = Field(default=3600, description="Window in which targets are counted.")


class ExecutorSettings(Section):
    """What may be done, to what, with which credentials. Only this role needs them."""

    allow_actions: list[str] = Field(default=[], description="Actions that may run; empty: none.")
    hosts: dict[str, Host] = Field(default={}, description="HTTP services that may be changed, by name.")
    databases: dict[str, PostgresUrl] = Field(default={}, description="Databases that may be changed, by name.")
    postgres_settings: list[str] = Field(
        default=[], description="Server settings that `postgres.alter_system` may change; empty: none."
    )
    namespaces: list[str] = Field(default=[], description="Kubernetes namespaces that may be changed; empty: none.")
    kubernetes: Kubernetes = Field(default=Kubernetes(), description="The cluster of these namespaces.")
    compose: dict[ComposeName, Compose] = Field(
        default={}, description="Docker Compose projects that may be changed, by the name they are up under."
    )
    kms: dict[str, Kms] = Field(default={}, description="Aliases of AWS KMS whose keys may be changed, by name.")
    blast_radius: BlastRadiusSettings = Field(
        default=BlastRadiusSettings(), description="How much of a fleet is acted on without a person."
    )
    lease_s: PositiveSeconds = Field(
        default=60, description="A claimed command without outcome by then is inconclusive."
    )
    public_keys: list[Path] = Field(
        default=[], description="PEM files of the Ed25519 keys that may sign commands; empty: the one in state_dir."
    )


class RemoteWriteSink(Endpoint):
    """A receiver of recorded series. `name` is that of its consumer group: who changes it begins anew."""

    name: str = Field(
        default="default", pattern=r"^[a-zA-Z0-9._-]+$", description="Unique; part of its consumer group."
    )
    url: HttpUrl = Field(min_length=1, description="Address, for a Prometheus `http://prometheus:9090/api/v1/write`.")
    max_samples: Positive = Field(default=2_000, description="Most samples in one request.")


class SinkSettings(Section):
    """Where alerts and recorded series are sent to, in other systems; nothing unless configured."""

    alertmanagers: list[Endpoint] = Field(
        default=[], description="Alertmanagers, each told of every alert; `/api/v2/alerts` is added to the address."
    )
    resend_interval_s: PositiveSeconds = Field(
        default=60, description="A firing alert is sent again this often, and said to end in four times that."
    )
    remote_write: list[RemoteWriteSink] = Field(
        default=[], description="Receivers of remote write for recorded series and `ALERTS`."
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [one.name for one in self.remote_write]
        if len(set(names)) != len(names):
            raise ValueError("every entry of remote_write needs a name of its own")
        return self


class Settings(Section):
    """Everything that can be set, in one tree."""

    state_dir: Path = Field(
        default=Path("var"), description="Folder of the embedded database, keys and recorded topics."
    )
    instance: str = Field(
        default="sentinel",
        min_length=1,
        description="Name of this process in logs, claims and sources; replicas of one role need different ones.",
    )
    log: LogSettings = Field(default=LogSettings(), description="Logging.")
    kafka: KafkaSettings = Field(default=KafkaSettings(), description="The broker.")
    database: DatabaseSettings = Field(default=DatabaseSettings(), description="The database.")
    http: HttpSettings = Field(default=HttpSettings(), description="The listener.")
    connectors: ConnectorSettings = Field(default=ConnectorSettings(), description="Sources.")
    rules: RuleSettings = Field(default=RuleSettings(), description="Rules.")
    responder: ResponderSettings = Field(default=ResponderSettings(), description="Decisions.")
    executor: ExecutorSettings = Field(default=ExecutorSettings(), description="Actions.")
    sinks: SinkSettings = Field(default=SinkSettings(), description="Other systems that are told.")
    notify: NotifySettings = Field(default=NotifySettings(), description="People who are told.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        told = self.responder.account_to
        if told and self.notify.is_configured and not self.notify.knows(told):
            raise ValueError(f"responder.account_to: nobody is called {told!r} in notify.receivers")
        return self
