"""What travels on the topics: one type per kind of message, JSON on the wire.

Every message is a `msgspec` struct. JSON, so that any Kafka tool can read it; batched and columnar, so that Python
is fast enough: one `MetricBatch` carries thousands of samples, and a label set, or a block of them (`core.blocks`),
stays *raw bytes* (`msgspec.Raw`) until somebody asks for a label, because the bytes serve as a dictionary key.

A label set on the wire is a JSON object of strings with its keys sorted and no blanks (`labels.encode`), so equal
label sets are equal bytes.

Times are event times unless the name says otherwise (`received_ms` is the connector's wall clock, kept for measuring
delay; no rule ever looks at it). Units are last in the name: milliseconds `_ms`, nanoseconds `_ns`.

The next module in the flow is `core.router`.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from msgspec import Raw, Struct
from numpy.typing import ArrayLike, NDArray

_VALUE = np.dtype("<f8")
_VALUE_BYTES = _VALUE.itemsize


class MetricBatch(Struct, frozen=True, tag="metrics", tag_field="kind"):
    """Samples of one source, in columns; topic `metrics`, key = source.

    `series` and `t_ms` have one entry for each label set, or for each block of label sets that were sampled at one time
    (`core.blocks`). `values` has eight bytes for each sample, in the same order: of a little-endian double, the first
    bytes of all samples, then all second bytes, and so on; in the JSON as base64. It is exact for every value, also for
    NaN and Prometheus's staleness marker, for which JSON has no number; no stage has to read or write numbers as text;
    and bytes that are alike stand together, which halves the time of compressing them (`pack`, `numbers`).

    `epoch` and `seq` number the batches of a source without gaps: a batch is a repetition when (epoch, seq) is not
    greater than the last one seen from that source. `watermark_ms` is the source's promise that nothing older
    follows. A batch without samples is a heartbeat: it only moves the watermark.
    """

    source: str
    epoch: int
    seq: int
    watermark_ms: int
    received_ms: int
    series: list[Raw] = []
    t_ms: list[int] = []
    values: bytes = b""

    def __post_init__(self) -> None:
        """Columns of unequal length are no batch: the decoder refuses them."""
        if len(self.series) != len(self.t_ms) or self.count < len(self.series) or len(self.values) % _VALUE_BYTES:
            raise ValueError(f"columns of {len(self.series)}, {len(self.t_ms)} and {len(self.values) / 8:g} entries")

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.values) // _VALUE_BYTES

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The values."""
        by_place = np.frombuffer(self.values, np.uint8).reshape(_VALUE_BYTES, -1)
        return np.ascontiguousarray(by_place.T).view(_VALUE)[:, 0]


def pack(values: ArrayLike) -> bytes:
    """Numbers as `MetricBatch.values` holds them."""
    return np.asarray(values, _VALUE).reshape(-1, 1).view(np.uint8).T.tobytes()


class LogEntry(Struct, frozen=True, array_like=True, gc=False):
    """One log line of a stream: [time, line] or [time, line, structured metadata]."""

    t_ns: int
    line: str
    metadata: dict[str, str] = {}


class LogStream(Struct, frozen=True, gc=False):
    """Lines that share one stream label set, oldest first."""

    labels: Raw
    entries: list[LogEntry]


class LogBatch(Struct, frozen=True, tag="logs", tag_field="kind"):
    """Log lines of one source; topic `logs`, key = source. Numbering and watermark as in `MetricBatch`."""

    source: str
    epoch: int
    seq: int
    watermark_ms: int
    received_ms: int
    streams: list[LogStream] = []


Batch = MetricBatch | LogBatch


class RuleInput(Struct, frozen=True):
    """The part of a batch that one rule shard asked for; topic `rule-inputs`, key = shard.

    Every batch reaches every shard that reads its kind, if only as a heartbeat, so that each shard knows the
    progress of each source.
    """

    shard: int
    batch: Batch


AlertState = Literal["inactive", "pending", "firing", "resolved"]


class EvidenceLine(Struct, frozen=True, gc=False):
    """A log line that counted towards an alert."""

    t_ns: int
    line: str
    labels: dict[str, str]


class Transition(Struct, frozen=True):
    """An alert changed state; topic `alerts`, key = fingerprint.

    `id` is a hash of (rule, fingerprint, state, at_ms): saying it twice changes nothing. `rule` is
    "<group>/<alertname>". `cause` tells a condition that ended ("cleared") from data that vanished ("no_data"): the
    latter is never a repair. `window_ms` is the longest range the rule looks back, which is how long a repair needs
    before the rule can show it. `value` is a string because JSON has no NaN.
    """

    id: str
    rule: str
    alertname: str
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    previous: AlertState
    state: AlertState
    at_ms: int
    active_since_ms: int
    value: str
    cause: Literal["condition", "cleared", "no_data", "rule_removed"]
    window_ms: int
    evidence: list[EvidenceLine] = []
    received_ms: int = 0


class Target(Struct, frozen=True):
    """What a command acts on. `kind` is the action's target kind ("http", "postgres"), `name` is unique in it."""

    kind: str
    name: str

    def key(self) -> str:
        """The Kafka key and lock name of this target."""
        return f"{self.kind}:{self.name}"


class Command(Struct, frozen=True):
    """One action on one target with its parameters (design: Safety 1). Signed as the exact bytes of its JSON.

    `id` is a hash of (incident, step, attempt, action, target, params): the same decision made again after a crash
    has the same id. `namespace`, `labels` (the alert's) and `priority` (the incident's) are there for the modes, which
    the executor decides again. `mark` is "live" or "replay"; a live executor refuses "replay".
    """

    id: str
    incident: int
    rule: str
    runbook: str
    step: str
    action: str
    target: Target
    params: dict[str, object]
    severity: str
    issued_ms: int
    expires_ms: int
    namespace: str = ""
    mark: Literal["live", "replay"] = "live"
    labels: dict[str, str] = {}
    priority: str = ""


class SignedCommand(Struct, frozen=True):
    """A command with its Ed25519 signature; topic `commands`, key = target."""

    body: str
    signature: str
    key_id: str
    received_ms: int = 0


OutcomeStatus = Literal["succeeded", "failed", "refused", "expired", "inconclusive"]


class Outcome(Struct, frozen=True):
    """What became of a command; topic `outcomes`, key = incident."""

    command: str
    incident: int
    status: OutcomeStatus
    reason: str
    detail: dict[str, object]
    executor: str
    started_ms: int
    finished_ms: int
    action: str = ""


class DeadLetter(Struct, frozen=True):
    """A message that could not be used: where it came from, why, and its bytes (base64); topic `dead-letter`.

    `value` holds the first bytes of a message too large to be wrapped whole; `size_bytes` is what it had.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    at_ms: int
    key: bytes | None
    value: bytes
    size_bytes: int = 0


_encoder = msgspec.json.Encoder()


def encode(message: Struct) -> bytes:
    """The JSON bytes of a message."""
    return _encoder.encode(message)


def encode_rule_input(message: RuleInput, whole: Batch, whole_json: bytes) -> bytes:
    """The JSON bytes of a rule input; `whole_json` are those of the batch `whole`, copied where all of it goes on."""
    if message.batch is not whole:
        return _encoder.encode(message)
    return b'{"shard":%d,"batch":%b}' % (message.shard, whole_json)


decode_batch = msgspec.json.Decoder(MetricBatch | LogBatch).decode
decode_rule_input = msgspec.json.Decoder(RuleInput).decode
decode_transition = msgspec.json.Decoder(Transition).decode
decode_command = msgspec.json.Decoder(Command).decode
decode_signed_command = msgspec.json.Decoder(SignedCommand).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode
decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode
