"""Asking the cluster, for actions: the client, an object by name, and looking until there is an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.actions import Check, Environment
from engine.actions._kubernetes import NAMESPACES, KubernetesApi, NoAnswerError, Object, ObjectRef, Request
from engine.actions._refused import RefusedError

_POLL_S = 1.0


def api_of(env: Environment) -> KubernetesApi:
    """The cluster's client. Raises `RefusedError` where none is configured."""
    if env.kubernetes is None:
        raise RefusedError("no_cluster", "the executor has no cluster: set executor.namespaces")
    return env.kubernetes


async def read(env: Environment, ref: ObjectRef) -> Object:
    """The object as it is now. Raises `RefusedError` when it, or its namespace, is not there."""
    try:
        return await api_of(env).send(Request("get", ref.resource, ref.namespace, ref.name))
    except RefusedError as error:
        if error.reason != "not_found":
            raise
    if await _is_there(env, Request("get", NAMESPACES, "", ref.namespace)):
        raise RefusedError("not_found", f"there is no {ref}")
    raise RefusedError("unknown_namespace", f"there is no namespace {ref.namespace}")


async def _is_there(env: Environment, request: Request) -> bool:
    """False only when the server says so: it need not be ours to read."""
    try:
        await api_of(env).send(request)
    except RefusedError as error:
        return error.reason != "not_found"
    return True


async def watched(env: Environment, within_s: float, look: Callable[[], Awaitable[tuple[Check, bool]]]) -> Check:
    """What `look` finds, asked again for so long until it says that this is final.

    A cluster that does not answer is asked again like any other; if it stays so, nobody knows.
    """
    check = Check("unknown", "it was not looked at")
    for attempt in range(1 + round(within_s / _POLL_S)):
        if attempt:
            await env.sleep(_POLL_S)
        try:
            check, final = await look()
        except NoAnswerError as error:
            check, final = Check("unknown", env.redact(str(error))), False
        if final:
            return check
    return Check(check.state, f"{check.why}, after {within_s:g} s")
