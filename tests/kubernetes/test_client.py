"""The client and the executor's start: which cluster, with which account, and what that account lacks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import structlog
from kubernetes.aio.config import incluster_config

from engine.actions._kubernetes import Request, Resource
from engine.edge.database import Database
from engine.edge.kubernetes import KubernetesConfigError, open_kubernetes
from engine.edge.node import running
from engine.edge.settings import Settings
from engine.loading import load
from tests.cluster import Cluster

RUNBOOK = """\
runbooks:
  - name: HighCPUUsage
    match: ['alertname="HighCPUUsage"']
    priority: P2
    escalation: [{to: on-call}]
    summary: busy
    steps:
      - name: scale
        act: {action: kubernetes.scale, target: 'NAMESPACE/deployment/app', params: {by: 1, ceiling: 5}}
      - name: better
        verify: {}
"""


async def started(kubeconfig: Path, folder: Path, namespace: str, database_url: str) -> list[tuple[str, str]]:
    """Start an executor; what it warned of."""
    (folder / "runbooks").mkdir()
    (folder / "runbooks" / "scale.yml").write_text(RUNBOOK.replace("NAMESPACE", namespace))
    executor = {
        "allow_actions": ["kubernetes.scale"],
        "namespaces": [namespace],
        "kubernetes": {"kubeconfig": kubeconfig, "timeout_s": 2},
    }
    tree = {"state_dir": folder, "database": {"url": database_url}, "http": {"listen": "127.0.0.1:0"}}
    settings = Settings.model_validate(tree | {"executor": executor})
    with structlog.testing.capture_logs() as logs:
        async with running(settings, ["executor"], load([folder / "runbooks"])):
            pass
    return [
        (one["event"], one.get("permission", one.get("reason", ""))) for one in logs if one["log_level"] == "warning"
    ]


@pytest.mark.real
async def test_the_executor_says_at_its_start_what_its_account_lacks(
    cluster: Cluster, namespace: str, tmp_path: Path, database: Database
) -> None:
    nobody = cluster.kubeconfig(cluster.account(namespace, "nobody"))
    warned = await started(nobody, tmp_path, namespace, database.url)
    assert [text for event, text in warned if event == "executor.permission_missing"] == [
        f"list on daemonsets.apps in namespace {namespace}",
        f"get on deployments.apps in namespace {namespace}",
        f"list on deployments.apps in namespace {namespace}",
        f"update on deployments.apps in namespace {namespace}",
        f"list on statefulsets.apps in namespace {namespace}",
        f"list on horizontalpodautoscalers.autoscaling in namespace {namespace}",
    ]


READS = """\
runbooks:
  - name: HighMemoryUsage
    match: ['alertname="HighMemoryUsage"']
    priority: P2
    escalation: [{to: on-call}]
    steps:
      - name: pods
        investigate: {kubernetes: {read: pods, target: 'NAMESPACE/deployment/app'}}
"""


@pytest.mark.real
async def test_the_responder_says_at_its_start_what_its_account_lacks(
    cluster: Cluster, namespace: str, tmp_path: Path, database: Database
) -> None:
    nobody = cluster.kubeconfig(cluster.account(namespace, "nobody"))
    responder = {"namespaces": [namespace], "kubernetes": {"kubeconfig": nobody}, "loki": {"url": "http://127.0.0.1:1"}}
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "reads.yml").write_text(READS.replace("NAMESPACE", namespace))
    tree = {"state_dir": tmp_path, "database": {"url": database.url}, "http": {"listen": "127.0.0.1:0"}}
    settings = Settings.model_validate(tree | {"responder": responder})
    with structlog.testing.capture_logs() as logs:
        async with running(settings, ["responder"], load([tmp_path / "runbooks"])):
            pass
    assert [one["permission"] for one in logs if one["event"] == "responder.permission_missing"] == [
        f"list on pods in namespace {namespace}",
        f"get on deployments.apps in namespace {namespace}",
    ]


@pytest.mark.real
async def test_with_everything_it_needs_it_warns_of_nothing_and_without_its_cluster_it_starts_all_the_same(
    cluster: Cluster, namespace: str, tmp_path: Path, database: Database
) -> None:
    (tmp_path / "one").mkdir()
    warned = await started(cluster.kubeconfig(), tmp_path / "one", namespace, database.url)
    assert [event for event, _ in warned if event.startswith("executor.")] == []
    away = cluster.kubeconfig()
    away.write_text(away.read_text().replace(cluster.url, "https://127.0.0.1:1"))
    (tmp_path / "two").mkdir()
    warned = await started(away, tmp_path / "two", namespace, database.url)
    assert [event for event, _ in warned if event.startswith("executor.")] == ["executor.permissions_unknown"]


@pytest.mark.real
async def test_inside_a_cluster_the_pods_service_account_is_used(
    cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(cluster.account(namespace, "executor"))
    host, port = cluster.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(cluster.certificate))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    myself = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", namespaced=False)
    async with open_kubernetes(None, "", 10.0) as api:
        answer = await api.send(Request("create", myself, "", body=review))
    assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:executor"


async def test_outside_a_cluster_a_kubeconfig_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubernetesConfigError, match=r"executor\.kubernetes\.kubeconfig"):
        async with open_kubernetes(None, "", 1.0):
            pass


@pytest.mark.parametrize("text", ["", "clusters: []\n", "a: [", "a", None])
async def test_a_kubeconfig_that_cannot_be_used_is_said(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(KubernetesConfigError, match="no way to the cluster"):
        async with open_kubernetes(tmp_path / "kubeconfig", "", 1.0):
            pass


async def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.aio", None)
    with pytest.raises(KubernetesConfigError, match=r"aureus-sentinel\[kubernetes\]"):
        async with open_kubernetes(None, "", 1.0):
            pass
