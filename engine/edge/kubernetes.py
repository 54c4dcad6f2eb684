"""The client of one Kubernetes cluster, by the official library: credentials, TLS and time limits in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from engine.actions import KubernetesRule, Permission
from engine.actions._kubernetes import ACCESS_REVIEWS, KubernetesApi, NoAnswerError, Object, Request, refusal
from engine.actions._permissions import merged_rules

_METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT"}
FIELD_MANAGER = "aureus-sentinel"


class KubernetesConfigError(ValueError):
    """The cluster cannot be reached as configured; the message says what to do."""


@asynccontextmanager
async def open_kubernetes(kubeconfig: Path | None, context: str, timeout_s: float) -> AsyncIterator[KubernetesClient]:
    """A client for the cluster of a kubeconfig file, without one for the cluster that this process runs in.

    `context` "" is the file's current one. Raises `KubernetesConfigError`.
    """
    try:
        from kubernetes.aio import client, config  # optional, and a second to import: only where it is needed
    except ImportError as error:
        raise KubernetesConfigError(
            "executor.namespaces and responder.namespaces need Kubernetes' client: install aureus-sentinel[kubernetes]"
        ) from error
    settings = client.Configuration()
    settings.retries = False  # a request is sent once; whoever sends it decides about another attempt
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=settings)
        else:
            await config.load_kube_config(str(kubeconfig), context or None, settings, persist_config=False)
    except Exception as error:  # the library raises whatever a broken file leads it to
        raise KubernetesConfigError(
            f"no way to the cluster: {type(error).__name__} {error}; "
            "inside a cluster the pod needs a service account, "
            "outside set executor.kubernetes.kubeconfig, and responder.kubernetes.kubeconfig for what is read"
        ) from error
    async with client.ApiClient(settings) as api:
        yield KubernetesClient(api, timeout_s)


class KubernetesClient:
    """Sends requests as they are, and takes what comes back as it is; see `engine.actions._kubernetes`."""

    def __init__(self, api: Any, timeout_s: float) -> None:
        self._api = api
        self._timeout_s = timeout_s

    async def send(self, request: Request) -> Object:
        """The object in the answer. Raises what `refusal` makes of others, `NoAnswerError` without any."""
        return _object(request, *await self._answer(request, "application/json"))

    async def text(self, request: Request) -> str:
        """The answer as text, such as a log. Raises as `send` does."""
        status, body = await self._answer(request, "*/*")
        if status >= 400:
            _object(request, status, body)
        return body.decode("utf-8", errors="replace")

    async def _answer(self, request: Request, accept: str) -> tuple[int, bytes]:
        query = [*request.query, *([("dryRun", "All")] if request.dry_run else [])]
        if request.verb in ("create", "update"):
            query.append(("fieldManager", FIELD_MANAGER))
        prepared = await self._api.param_serialize(
            _METHODS[request.verb],
            request.resource.path(request.namespace, request.name),
            query_params=query,
            header_params={"Accept": accept, "Content-Type": "application/json"},
            body=request.body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._api.call_api(*prepared, _request_timeout=self._timeout_s)
            return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswerError(f"the cluster gave no answer: {str(error) or type(error).__name__}") from error


async def lacking(api: KubernetesApi, permissions: Iterable[Permission], namespace: str) -> list[str]:
    """The permissions that the account lacks in a namespace, in words, as a SelfSubjectAccessReview for each says.

    Every account may ask about itself. Raises `NoAnswerError`, `RefusedError`.
    """
    out = []
    for rule in merged_rules(permissions):
        (group,), (resource,) = rule["apiGroups"], rule["resources"]
        plural, _, subresource = resource.partition("/")
        where = {"namespace": namespace, "group": group, "resource": plural, "subresource": subresource}
        for verb in rule["verbs"]:
            spec = {"resourceAttributes": {**where, "verb": verb}}
            review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
            answer = await api.send(Request("create", ACCESS_REVIEWS, "", body=review))
            if not answer["status"]["allowed"]:
                out.append(f"{KubernetesRule(group, resource, (verb,))} in namespace {namespace}")
    return out


def _object(request: Request, status: int, body: bytes) -> Object:
    try:
        found: Object = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        text = body[:200].decode(errors="replace")
        raise NoAnswerError(f"status {status} with an answer that is no object: {text}") from error
    if status >= 400:
        raise refusal(request, status, str(found.get("message", "")))
    return found
