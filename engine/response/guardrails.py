"""Guardrails: may this command be sent, by whom, or why not. A pure table of checks (design: Safety 3 and 4).

Every check answers with a named reason or not at all; the first reason in the order of the table is the verdict. What
the checks look at is passed in: the command, the installation's policy, what was done before, the pause switch and
the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from engine.core.messages import Command
from engine.response.silences import Mute, MuteReason
from engine.response.steps import Limits, Mode
from engine.response.words import count, span

Reason = Literal[
    "replay",
    "expired",
    "paused",
    "silenced",
    "maintenance",
    "cooldown",
    "budget_spent",
    "storm",
    "circuit_open",
]
PastStatus = Literal["sent", "succeeded", "failed", "refused", "expired", "inconclusive"]

HOUR_MS = 3_600_000
_STRICTNESS: dict[Mode, int] = {"auto": 0, "approve": 1, "observe": 2}


class ModeRule(Struct, frozen=True):
    """A mode for some commands; `action` may hold `*`; an empty field fits everything. The first that fits decides."""

    mode: Mode
    action: str = ""
    severity: str = ""
    namespace: str = ""

    def names(self, action: str) -> bool:
        """Whether it is about exactly this action, and not about whatever fits."""
        return self.action == action


class Policy(Struct, frozen=True):
    """What an installation allows. A cooldown of 0 leaves it to the runbooks.

    `default_mode` is for what no rule names; something destructive needs a rule that names it to be automatic.
    """

    modes: tuple[ModeRule, ...] = ()
    default_mode: Mode = "approve"
    cooldown_ms: int = 0
    storm_targets: int = 5
    storm_window_ms: int = 60_000
    breaker_failures: int = 3
    breaker_open_ms: int = 1_800_000
    approval_expiry_ms: int = 900_000
    outcome_grace_ms: int = 120_000


class Past(Struct, frozen=True):
    """A command that was sent before, and what became of it."""

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


class Request(Struct, frozen=True):
    """A command with what is known about its making. `mute`: what mutes the alert it is about."""

    command: Command
    attempt: int
    namespace: str
    destructive: bool
    cooldown_ms: int = Limits().cooldown_ms
    budget_per_hour: int = Limits().budget_per_hour
    mode: Mode = "auto"
    approved: bool = False
    mute: Mute | None = None


class Verdict(Struct, frozen=True):
    """`send`: now; `approve`: when a person agrees; `observe`: only say so; `refuse`: no, for `reason`."""

    decision: Literal["send", "approve", "observe", "refuse"]
    reason: str
    detail: str = ""


def check(request: Request, policy: Policy, history: Iterable[Past], paused: bool, now_ms: int) -> Verdict:
    """What the guardrails say about a command. The order of `history` does not matter; the command itself is not in it.

    An approval answers for the mode (a person has looked), never for anything else.
    """
    own = request.command.id
    past = sorted((p for p in history if p.command != own), key=lambda p: (p.issued_ms, p.command))
    facts = _Facts(request, policy, past, paused, now_ms)
    for reason, look in CHECKS:
        detail = look(facts)
        if detail is not None:
            return Verdict("refuse", reason, detail)
    if request.approved:
        return Verdict("send", "approved")
    mode, why = mode_of(request, policy)
    if mode == "auto":
        return Verdict("send", why)
    return Verdict("approve" if mode == "approve" else "observe", why)


def mode_of(request: Request, policy: Policy) -> tuple[Mode, str]:
    """The mode of a command and why: the strictest of what the installation and the runbook say."""
    command = request.command
    mode: Mode
    rule = next((rule for rule in policy.modes if _fits(rule, command, request.namespace)), None)
    if rule is not None and rule.mode == "auto" and request.destructive and not rule.names(command.action):
        mode, why = "approve", "destructive, and the rule of the policy does not name the action"
    elif rule is not None:
        mode, why = rule.mode, f"mode {rule.mode} by a rule of the policy"
    elif request.destructive and policy.default_mode == "auto":
        mode, why = "approve", "destructive, and no rule of the policy names it"
    else:
        mode, why = policy.default_mode, f"mode {policy.default_mode} by default"
    if _STRICTNESS[request.mode] > _STRICTNESS[mode]:
        return request.mode, f"mode {request.mode} by the runbook"
    return mode, why


def _fits(rule: ModeRule, command: Command, namespace: str) -> bool:
    return (
        fnmatchcase(command.action, rule.action or "*")
        and rule.severity in ("", command.severity)
        and rule.namespace in ("", namespace)
    )


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


def _storm(facts: _Facts) -> str | None:
    targets = {p.target for p in facts.since(facts.policy.storm_window_ms)} | {facts.request.command.target.key()}
    if len(targets) <= facts.policy.storm_targets:
        return None
    return f"{len(targets)} targets within {span(facts.policy.storm_window_ms)}: suspect the monitoring"


def _circuit(facts: _Facts) -> str | None:
    done = [p for p in facts.past if p.action == facts.request.command.action and p.finished_ms]
    last = sorted(done, key=lambda p: (p.finished_ms, p.command))[-facts.policy.breaker_failures :]
    if len(last) < facts.policy.breaker_failures or any(p.status not in ("failed", "inconclusive") for p in last):
        return None
    since_ms = facts.now_ms - last[-1].finished_ms
    if since_ms >= facts.policy.breaker_open_ms:
        return None
    return f"{facts.request.command.action} failed {len(last)} times in a row, the last {span(since_ms)} ago"


CHECKS: tuple[tuple[Reason, Callable[[_Facts], str | None]], ...] = (
    ("replay", _replay),
    ("expired", _expired),
    ("paused", _paused),
    ("maintenance", _maintenance),
    ("silenced", _silenced),
    ("storm", _storm),
    ("circuit_open", _circuit),
    ("cooldown", _cooldown),
    ("budget_spent", _budget),
)
