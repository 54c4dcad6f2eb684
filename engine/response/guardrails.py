"""Guardrails: may this command be sent, by whom, or why not. A pure table of checks (design: Safety 3 and 4).

Every check answers with a named reason or not at all; the first reason in the order of the table is the verdict. What
the checks look at is passed in: the command, the installation's policy, what was done before, the pause switch and
the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import Struct

from engine.core.labels import MatcherSet, parse_matcher
from engine.core.messages import Command
from engine.response.silences import Mute, MuteReason
from engine.response.steps import Limits, Mode, Priority
from engine.response.words import count, span

Reason = Literal[
    "replay",
    "expired",
    "paused",
    "silenced",
    "maintenance",
    "cooldown",
    "budget_spent",
    "circuit_open",
]
# Why a command is sent, waits for a person or is only observed.
ModeReason = Literal[
    "default_mode",
    "policy_rule",
    "destructive",
    "production_label",
    "four_eyes",
    "runbook_mode",
    "ineffective",
    "flapping",
    "storm",
    "approved",
]
PastStatus = Literal["sent", "succeeded", "failed", "refused", "expired", "inconclusive"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PRODUCTION = ('env=~"(?i:prod(uction)?)"', 'environment=~"(?i:prod(uction)?)"', 'stage=~"(?i:prod(uction)?)"')
_encoder = msgspec.json.Encoder(order="deterministic")
_STRICTNESS: dict[Mode, int] = {"auto": 0, "approve": 1, "observe": 2}


class ModeRule(Struct, frozen=True):
    """A mode for some commands; `action` may hold `*`; an empty field fits everything. The first that fits decides.

    `match` are matchers on the alert's labels, which must all hold. Raises `ValueError` for a text that is none.
    """

    mode: Mode
    action: str = ""
    severity: str = ""
    namespace: str = ""
    match: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _matchers(self.match)

    def fits(self, command: Command, namespace: str) -> bool:
        """Whether it says something about this command, as far as it is about this namespace."""
        return (
            fnmatchcase(command.action, self.action or "*")
            and self.severity in ("", command.severity)
            and self.namespace in ("", namespace)
            and _matchers(self.match)(command.labels)
        )

    def names(self, action: str) -> bool:
        """Whether it is about exactly this action, and not about whatever fits."""
        return self.action == action


class Policy(Struct, frozen=True):
    """What an installation allows. A cooldown of 0 leaves it to the runbooks.

    `default_mode` is for what no rule names; something destructive needs a rule that names it to be automatic, and
    something with a label of `production` (one matcher is enough) one that matches labels. `four_eyes`: at these
    priorities two people must agree. `flap_repairs`: so often in a day the same repair is made alone. While more
    than `storm_targets` fail within `storm_window_ms` nothing is done alone; nothing is done or asked for before an
    alert has fired for `storm_settle_ms`, so that the first of many wait as well.
    """

    modes: tuple[ModeRule, ...] = ()
    default_mode: Mode = "approve"
    cooldown_ms: int = 0
    storm_targets: int = 5
    storm_window_ms: int = 60_000
    storm_settle_ms: int = 0
    breaker_failures: int = 3
    breaker_open_ms: int = 1_800_000
    approval_expiry_ms: int = 900_000
    outcome_grace_ms: int = 120_000
    production: tuple[str, ...] = PRODUCTION
    four_eyes: tuple[Priority, ...] = ()
    flap_repairs: int = 3

    def people(self, priority: str) -> int:
        """How many people must agree at a priority where one must."""
        return 2 if priority in self.four_eyes else 1

    def is_production(self, command: Command) -> bool:
        """Whether the labels of the command's alert say that it is about production."""
        return any(_matchers((text,))(command.labels) for text in self.production)


class Past(Struct, frozen=True):
    """A command that was sent before, and what became of it. `repair` as `repair_of` has it."""

    command: str
    incident: int
    attempt: int
    runbook: str
    step: str
    action: str
    target: str
    issued_ms: int
    status: PastStatus = "sent"
    finished_ms: int = 0
    repair: str = ""


class Request(Struct, frozen=True):
    """A command with what is known about its making. `mode` is what its runbook asks for, and `why`.

    `mute` is what mutes the alert it is about, `storm` says in words what fails at the same time.
    """

    command: Command
    attempt: int
    destructive: bool
    cooldown_ms: int = Limits().cooldown_ms
    budget_per_hour: int = Limits().budget_per_hour
    mode: Mode = "auto"
    why: ModeReason = "runbook_mode"
    approved: bool = False
    mute: Mute | None = None
    storm: str = ""


class Verdict(Struct, frozen=True):
    """`send`: now; `approve`: when a person agrees; `observe`: only say so; `refuse`: no.

    `reason` is a name, `detail` says it in words.
    """

    decision: Literal["send", "approve", "observe", "refuse"]
    reason: str
    detail: str = ""


def check(request: Request, policy: Policy, history: Iterable[Past], paused: bool, now_ms: int) -> Verdict:
    """What the guardrails say about a command. The order of `history` does not matter; the command itself is not in it.

    An approval answers for the mode (a person has looked), never for anything else. In a storm a person is asked also
    where a cooldown or a budget would refuse: what they have to hear of is the storm.
    """
    own = request.command.id
    past = sorted((p for p in history if p.command != own), key=lambda p: (p.issued_ms, p.command))
    facts = _Facts(request, policy, past, paused, now_ms)
    mode = mode_of(request, policy)
    storm = request.storm if mode.mode != "observe" and not request.approved else ""
    for reason, look in CHECKS:
        detail = look(facts)
        if detail is not None and not (storm and reason in _LESS_THAN_A_STORM):
            return Verdict("refuse", reason, detail)
    if storm:
        return Verdict("approve", "storm", storm)
    if request.approved and mode.mode != "observe":
        return Verdict("send", "approved", "approved")
    flapping = _flapping(facts)
    if mode.mode == "auto" and flapping is not None:
        return Verdict("approve", "flapping", flapping)
    decision: Literal["send", "approve", "observe"] = "send" if mode.mode == "auto" else mode.mode
    return Verdict(decision, mode.reason, mode.detail)


class ModeFound(Struct, frozen=True):
    """The mode of a command, the name of why, and why in words."""

    mode: Mode
    reason: ModeReason
    detail: str


def mode_of(request: Request, policy: Policy) -> ModeFound:
    """The mode of a command: the strictest of what the installation says, for each namespace, and the runbook."""
    found = [_mode_in(namespace, request, policy) for namespace in _namespaces(request.command)]
    if policy.people(request.command.priority) > 1:
        found.append(ModeFound("approve", "four_eyes", f"two people must agree at {request.command.priority}"))
    found.append(ModeFound(request.mode, request.why, f"mode {request.mode} by the runbook"))
    return max(found, key=lambda one: _STRICTNESS[one.mode])  # of equals the first


def repair_of(command: Command) -> str:
    """What a command does to what, whichever incident it is for: a hash of action, target and parameters."""
    done = _encoder.encode([command.action, command.target.key(), command.params])
    return hashlib.blake2b(done, digest_size=16).hexdigest()


def target_namespaces(command: Command) -> tuple[str, ...]:
    """The Kubernetes namespaces that a command acts on: its target's (`NAMESPACE/KIND/NAME`), its parameter's."""
    of_target = command.target.name.partition("/")[0] if command.target.kind == "kubernetes" else ""
    of_params = command.params.get("namespace")
    named = [of_target] + ([str(of_params)] if of_params is not None else [])
    return tuple(namespace for namespace in named if namespace)


def _namespaces(command: Command) -> list[str]:
    """Those that a command acts on and the alert's, which may be another: what holds in either holds."""
    return sorted({one for one in (command.namespace, *target_namespaces(command)) if one}) or [""]


def _mode_in(namespace: str, request: Request, policy: Policy) -> ModeFound:
    command = request.command
    rule = next((rule for rule in policy.modes if rule.fits(command, namespace)), None)
    mode = rule.mode if rule is not None else policy.default_mode
    if mode == "auto" and request.destructive and not (rule is not None and rule.names(command.action)):
        return ModeFound("approve", "destructive", "destructive, and no rule of the policy names the action")
    if mode == "auto" and policy.is_production(command) and not (rule is not None and rule.match):
        return ModeFound("approve", "production_label", "labelled production, and the rule does not match labels")
    if rule is not None:
        return ModeFound(mode, "policy_rule", f"mode {mode} by a rule of the policy")
    return ModeFound(mode, "default_mode", f"mode {mode} by default")


@lru_cache(maxsize=1024)
def _matchers(texts: tuple[str, ...]) -> MatcherSet:
    return MatcherSet(parse_matcher(text) for text in texts)


class _Facts(Struct, frozen=True):
    request: Request
    policy: Policy
    past: Sequence[Past]
    paused: bool
    now_ms: int

    def since(self, span_ms: int) -> list[Past]:
        return [p for p in self.past if p.issued_ms > self.now_ms - span_ms]


def _replay(facts: _Facts) -> str | None:
    return "commands of a replay are never sent" if facts.request.command.mark != "live" else None


def _expired(facts: _Facts) -> str | None:
    late_ms = facts.now_ms - facts.request.command.expires_ms
    return f"expired {span(late_ms)} ago" if late_ms >= 0 else None


def _paused(facts: _Facts) -> str | None:
    return "everything is paused" if facts.paused else None


def _silenced(facts: _Facts) -> str | None:
    return _muted(facts, "silenced")


def _maintenance(facts: _Facts) -> str | None:
    return _muted(facts, "maintenance")


def _muted(facts: _Facts, reason: MuteReason) -> str | None:
    mute = facts.request.mute
    if mute is None or mute.reason != reason or mute.until_ms <= facts.now_ms:
        return None
    return f"{mute.name}, for another {span(mute.until_ms - facts.now_ms)}"


def _cooldown(facts: _Facts) -> str | None:
    command, key = facts.request.command, facts.request.command.target.key()
    for past in reversed(facts.past):
        if past.target != key or _same_run(past, facts.request):
            continue
        own = past.runbook == command.runbook
        span_ms = max(facts.policy.cooldown_ms, facts.request.cooldown_ms if own else 0)
        if past.issued_ms > facts.now_ms - span_ms:
            return f"{key} was acted on {span(facts.now_ms - past.issued_ms)} ago; the cooldown is {span(span_ms)}"
    return None


def _same_run(past: Past, request: Request) -> bool:
    """A later remedy of the same run is no repetition; the same step again is."""
    command = request.command
    return (past.incident, past.attempt) == (command.incident, request.attempt) and past.step != command.step


def _budget(facts: _Facts) -> str | None:
    runbook, most = facts.request.command.runbook, facts.request.budget_per_hour
    spent = sum(p.runbook == runbook for p in facts.since(HOUR_MS))
    return f"{count(spent, 'command')} within the last hour; the budget is {most}" if spent >= most else None


def _circuit(facts: _Facts) -> str | None:
    done = [p for p in facts.past if p.action == facts.request.command.action and p.finished_ms]
    last = sorted(done, key=lambda p: (p.finished_ms, p.command))[-facts.policy.breaker_failures :]
    if len(last) < facts.policy.breaker_failures or any(p.status not in ("failed", "inconclusive") for p in last):
        return None
    since_ms = facts.now_ms - last[-1].finished_ms
    if since_ms >= facts.policy.breaker_open_ms:
        return None
    return f"{facts.request.command.action} failed {len(last)} times in a row, the last {span(since_ms)} ago"


def _flapping(facts: _Facts) -> str | None:
    """A repair that has to be made again and again is none; what is told is that a person has to look."""
    command = facts.request.command
    runs = {
        (p.incident, p.attempt)
        for p in facts.since(DAY_MS)
        if p.repair == repair_of(command) and p.status not in ("refused", "expired")
    }
    runs.discard((command.incident, facts.request.attempt))
    if len(runs) < facts.policy.flap_repairs:
        return None
    return f"{command.target.key()} was repaired {count(len(runs), 'time')} within a day, and needs it again"


_LESS_THAN_A_STORM = ("circuit_open", "cooldown", "budget_spent")
CHECKS: tuple[tuple[Reason, Callable[[_Facts], str | None]], ...] = (
    ("replay", _replay),
    ("expired", _expired),
    ("paused", _paused),
    ("maintenance", _maintenance),
    ("silenced", _silenced),
    ("circuit_open", _circuit),
    ("cooldown", _cooldown),
    ("budget_spent", _budget),
)
