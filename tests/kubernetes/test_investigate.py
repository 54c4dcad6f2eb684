"""A real cluster is asked about what is in it: with an account that may read, and with one that may not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import yaml
from aiohttp import web

from engine.cli.permissions import Format, permissions
from engine.edge.investigate import Cluster as Readable
from engine.edge.investigate import Investigator
from engine.edge.kubernetes import open_kubernetes
from engine.response.model import Evidence, Investigate, KubernetesRead
from engine.response.steps import READS
from tests.cluster import Cluster, manifest
from tests.kubernetes.conftest import APPS, Workload, path_of
from tests.kubernetes.test_permissions import grant

pytestmark = pytest.mark.real

Ask = Callable[..., Awaitable[Evidence]]


@pytest.fixture
def ask(cluster: Cluster, namespace: str) -> Ask:
    """Ask as a responder that may read one namespace, with an administrator's account or that of a kubeconfig file."""

    async def find(
        read: str, target: str, kubeconfig: Path | None = None, max_rows: int = 100, tail: int = 100
    ) -> Evidence:
        async with httpx.AsyncClient() as http, open_kubernetes(kubeconfig or cluster.kubeconfig(), "", 10.0) as api:
            readable = Readable(api, frozenset({namespace}))
            investigator = Investigator(http, databases={}, hosts={}, query_url="", cluster=readable)
            query = KubernetesRead(read, target, tail)  # type: ignore[arg-type]  # a table's text
            return await investigator.find(Investigate(1, 1, "step", query, 10_000, max_rows), 5)

    return find


async def test_pods_come_by_name_with_their_state(
    cluster: Cluster, namespace: str, ask: Ask, deployment: Workload
) -> None:
    target = deployment("app", replicas=2)
    deployment("app-worker", replicas=1)
    found = await ask("pods", target)
    assert found.error == ""
    names = sorted(
        one["metadata"]["name"] for one in cluster.pods(namespace) if "worker" not in one["metadata"]["name"]
    )
    assert [row["name"] for row in found.rows] == names
    assert {(row["phase"], row["ready"], row["image"]) for row in found.rows} == {("Running", True, "app:1")}
    one = await ask("pods", f"{namespace}/pod/{names[0]}")
    assert one.rows == found.rows[:1]


async def test_status_and_revisions_follow_a_rollout(
    cluster: Cluster, namespace: str, ask: Ask, deployment: Workload
) -> None:
    target = deployment("app", replicas=2)
    spec = {"template": {"spec": {"containers": [{"name": "main", "image": "app:2"}]}}}
    cluster.patch(path_of(target), {"spec": spec})
    cluster.settled(path_of(target))
    (status,) = (await ask("status", target)).rows
    assert status == {
        "kind": "deployment",
        "replicas": 2,
        "ready": 2,
        "updated": 2,
        "available": 2,
        "revision": 2,
        "image": "app:2",
        "paused": False,
    }
    revisions = (await ask("revisions", target)).rows
    assert [(row["revision"], row["image"], row["current"]) for row in revisions] == [
        (2, "app:2", True),
        (1, "app:1", False),
    ]
    events = (await ask("events", target)).rows
    assert {"ScalingReplicaSet", "SuccessfulCreate"} <= {row["reason"] for row in events}
    assert [row["at_ms"] for row in events] == sorted((row["at_ms"] for row in events), reverse=True)


async def test_a_claim_and_an_autoscaler_have_a_status(cluster: Cluster, namespace: str, ask: Ask) -> None:
    cluster.volume(namespace, "data", "1Gi")
    (row,) = (await ask("status", f"{namespace}/persistentvolumeclaim/data")).rows
    assert (row["phase"], row["capacity_bytes"]) == ("Bound", 1024**3)


@pytest.mark.parametrize(
    ("read", "target", "why"),
    [
        ("pods", "NAMESPACE/deployment/gone", "there is no deployments gone in namespace"),
        ("pods", "kube-system/deployment/dns", "namespace 'kube-system' is not in responder.namespaces"),
        ("pods", "NAMESPACE/deployment/../../secrets", "is NAMESPACE/KIND/NAME of kind deployment or"),
        ("pods", "NAMESPACE/deployment/app?x=1", "is NAMESPACE/KIND/NAME of kind deployment or"),
        ("status", "NAMESPACE/pod/app", "what has status is NAMESPACE/KIND/NAME of kind deployment or"),
    ],
)
async def test_what_cannot_be_read_is_not_an_empty_answer(
    read: str, target: str, why: str, namespace: str, ask: Ask
) -> None:
    found = await ask(read, target.replace("NAMESPACE", namespace))
    assert (found.ok, found.rows) == (False, [])
    assert why in found.error


class Kubelet:
    """Answers the API server for one node, as a kubelet does, with logs of its own making."""

    def __init__(self) -> None:
        self.logs: dict[str, list[str]] = {}

    async def log(self, request: web.Request) -> web.Response:
        pod, container = request.match_info["pod"], request.match_info["container"]
        lines = self.logs.get(f"{pod}/{container}")
        if lines is None:
            return web.Response(status=400, text=f"container {container} in pod {pod} is waiting to start")
        tail = int(request.query["tailLines"])
        return web.Response(text="".join(f"{line}\n" for line in lines[-tail:]))


@pytest.fixture
async def kubelet(cluster: Cluster, namespace: str) -> AsyncIterator[Kubelet]:
    """A node with its kubelet, and two pods on it: `app-0`, and `app-1` of two containers."""
    made = Kubelet()
    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", made.log)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cluster.certificate, cluster.certificate.with_suffix(".key"))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    node = f"node-{namespace}"
    await asyncio.to_thread(_add_node, cluster, namespace, node, runner.addresses[0][1])
    yield made
    await asyncio.to_thread(cluster.delete, f"/api/v1/nodes/{node}")
    await runner.cleanup()


def _add_node(cluster: Cluster, namespace: str, node: str, port: int) -> None:
    cluster.create("/api/v1/nodes", {"metadata": {"name": node}})
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
    cluster.patch(f"/api/v1/nodes/{node}/status", {"status": status})
    cluster.create(f"{APPS}/{namespace}/statefulsets", manifest("app", replicas=0))
    for number in (0, 1):
        containers = [{"name": name, "image": "app:1"} for name in ["main", "side"][: number + 1]]
        metadata = {"name": f"app-{number}", "labels": {"app": "app"}}
        spec = {"nodeName": node, "containers": containers}
        cluster.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": metadata, "spec": spec})


async def test_logs_are_the_last_lines_of_each_container(namespace: str, ask: Ask, kubelet: Kubelet) -> None:
    kubelet.logs = {"app-0/main": ["a1", "a2", "a3"], "app-1/main": ["b1"], "app-1/side": ["s1", "s2"]}
    found = await ask("logs", f"{namespace}/pod/app-0", tail=2)
    assert (found.rows, found.error) == ([{"pod": "app-0", "line": "a2"}, {"pod": "app-0", "line": "a3"}], "")
    of_all = await ask("logs", f"{namespace}/statefulset/app", max_rows=3)  # the newest of each fit in
    assert [(row["pod"], row["line"]) for row in of_all.rows] == [("app-0", "a3"), ("app-1", "b1"), ("app-1", "s2")]


async def test_a_container_that_has_not_started_has_no_log_and_that_is_said(
    namespace: str, ask: Ask, kubelet: Kubelet
) -> None:
    none = await ask("logs", f"{namespace}/pod/app-0")
    assert (none.ok, none.rows) == (False, [])
    assert "waiting to start" in none.error
    kubelet.logs = {"app-0/main": ["a"]}
    some = await ask("logs", f"{namespace}/statefulset/app")
    assert (some.rows, some.truncated) == ([{"pod": "app-0", "line": "a"}], True)


@pytest.mark.parametrize("read", [read for read in READS if read != "logs"])  # without nodes there are no logs
async def test_what_sentinel_permissions_prints_is_enough_and_with_nothing_it_says_what_lacks(
    read: str,
    cluster: Cluster,
    namespace: str,
    ask: Ask,
    deployment: Workload,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = deployment("app", replicas=1)
    step = {"name": "seen", "investigate": {"kubernetes": {"read": read, "target": target}}}
    head = {"name": "One", "match": ['alertname="One"'], "priority": "P2", "escalation": [{"to": "on-call"}]}
    file = tmp_path / "runbooks.yml"
    file.write_text(yaml.safe_dump({"runbooks": [head | {"steps": [step]}]}))
    permissions([file], Format.yaml, [namespace], f"{namespace}/executor,responder")
    allowed = grant(cluster, list(yaml.safe_load_all(capsys.readouterr().out)))
    found = await ask(read, target, allowed)
    assert (found.ok, found.error) == (True, "")
    assert found.rows
    refused = await ask(read, target, cluster.kubeconfig(cluster.account(namespace, "nobody")))
    assert (refused.ok, refused.rows) == (False, [])
    assert "the account lacks the permission: get on deployments.apps" in refused.error


@pytest.mark.parametrize("kind", ["statefulset", "daemonset"])
async def test_other_workloads_have_revisions_too(kind: str, cluster: Cluster, namespace: str, ask: Ask) -> None:
    cluster.create(f"{APPS}/{namespace}/{kind}s", manifest("app"))
    path = path_of(f"{namespace}/{kind}/app")
    cluster.until(lambda: "observedGeneration" in cluster.get(path).get("status", {}), "it is seen")
    (revision,) = (await ask("revisions", f"{namespace}/{kind}/app")).rows
    (status,) = (await ask("status", f"{namespace}/{kind}/app")).rows
    assert (revision["revision"], revision["current"], revision["image"]) == (1, True, "app:1")
    assert (status["kind"], status["revision"]) == (kind, 1)
