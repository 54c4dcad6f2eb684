"""What there is to be watched: the seed's services on a real cluster and a real PostgreSQL, and their pages and logs.

Prometheus finds a page for each pod that the cluster has, as its Kubernetes discovery would; a pod that is not ready
answers it with 503. Beside them stand the pages of kube-state-metrics, a kubelet and a PostgreSQL exporter, written
from what the cluster and the server really say.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiohttp import web

from engine.actions._quantity import amount
from tests.cluster import Cluster
from tests.nine.services import CHANNELS, Pod, Service, page

NAMESPACE = "aureus"
TURN_S = 0.25
Object = dict[str, Any]
VERIFIED = "bridge_signatures_verified_total"
FAILURES = {
    reason: f'bridge_signature_failures_total{{reason="{reason}"}}'
    for reason in ("key_mismatch", "tampered", "ttl_expired")
}
SIGNATURE_COUNTERS = (VERIFIED, *FAILURES.values())
VIOLATIONS = {
    policy: f'aureus_os_policy_violations_total{{policy_id="{policy}"}}'
    for policy in ("data-exfiltration", "prompt-injection")
}
_ACTIVITY = """
select datname, state, count(*) as backends from pg_stat_activity
where backend_type = 'client backend' and datname is not null group by datname, state
"""


class Town:
    """The services by name, the pods that the cluster has of them now, and who else lives here."""

    def __init__(self, cluster: Cluster, postgres_url: str, loki_url: str, targets: Path) -> None:
        self.cluster = cluster
        self.services = {
            "bridge": Service("bridge", 40.0, 0.02, counted=SIGNATURE_COUNTERS),
            "aureus-os": Service("aureus-os", 2.0, 0.25, counted=tuple(VIOLATIONS.values())),
            "openclaw": Service("openclaw", 20.0, 0.04, connections=dict.fromkeys(CHANNELS, 100.0)),
        }
        self.pods: list[Pod] = []
        self.claims: list[Object] = []
        self.volume_used_bytes = 4e9
        self.turns: list[Callable[[], Awaitable[None]]] = []  # what else happens here
        self.routes: list[web.RouteDef] = []  # what else is served here
        self.lines: list[tuple[dict[str, str], str]] = []  # log lines that are to be shipped, with their stream
        self.url = ""
        self._postgres_url = postgres_url
        self._loki_url = loki_url
        self._targets = targets
        self._database: asyncpg.Connection | None = None

    def log(self, service: str, level: str, event: str, **fields: Any) -> None:
        """A line of a service's log."""
        stream = {"job": service, "service": service, "namespace": NAMESPACE}
        self.lines.append((stream, json.dumps({"level": level, "event": event, **fields})))

    def ready(self, service: str) -> list[Pod]:
        """The pods of a service that are ready."""
        return [pod for pod in self.pods if pod.service == service and pod.ready]

    @asynccontextmanager
    async def living(self) -> AsyncIterator[str]:
        """Serve the pages, and go on; yields the address (host:port)."""
        app = web.Application()
        app.add_routes([web.get("/pods/{name}/metrics", self._pod_page), web.get("/{what}/metrics", self._other_page)])
        app.add_routes(self.routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"{host}:{port}"
        self._database = await asyncpg.connect(self._postgres_url)
        going = asyncio.create_task(self._go_on())
        try:
            yield self.url
        finally:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            self._database.terminate()
            await runner.cleanup()

    async def _go_on(self) -> None:
        last_s = time.monotonic()
        async with httpx.AsyncClient(timeout=5) as http:
            while True:
                await asyncio.sleep(TURN_S)
                await asyncio.to_thread(self._look)
                now_s = time.monotonic()
                elapsed_s, last_s = now_s - last_s, now_s
                for service in self.services.values():
                    service.advance([pod for pod in self.pods if pod.service == service.name], elapsed_s)
                    self._tell(service)
                await asyncio.gather(*(turn() for turn in self.turns))
                await self._ship(http)

    def _look(self) -> None:
        """What the cluster says; the page of each pod is announced to Prometheus."""
        found = self.cluster.pods(NAMESPACE)
        self.pods = [_pod(one) for one in found if "deletionTimestamp" not in one["metadata"]]
        self.claims = self.cluster.get(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims")["items"]
        for claim in self.claims:
            wished = claim["spec"]["resources"]["requests"]["storage"]
            if claim.get("status", {}).get("capacity", {}).get("storage") != wished:
                self.cluster.grow(NAMESPACE, claim["metadata"]["name"], wished)  # as a storage driver does
        text = json.dumps(self.targets())
        if not self._targets.exists() or self._targets.read_text() != text:
            fresh = self._targets.with_suffix(".new")
            fresh.write_text(text)
            fresh.rename(self._targets)

    def targets(self) -> list[Object]:
        """What Prometheus is told of: a page for each pod, ready or not."""
        return [self._target(pod) for pod in self.pods if pod.service in self.services]

    def _target(self, pod: Pod) -> Object:
        labels = {"job": pod.service, "service": pod.service, "namespace": NAMESPACE, "pod": pod.name}
        return {
            "targets": [self.url],
            "labels": {**labels, "instance": pod.name, "__metrics_path__": f"/pods/{pod.name}/metrics"},
        }

    def _tell(self, service: Service) -> None:
        """A line per turn about what a service does; it has none when nothing of it is ready."""
        for pod in self.ready(service.name)[:1]:
            if service.bad_images.get(pod.image):
                self.log(service.name, "ERROR", "request_failed", error="KeyError: 'tenant'", status=500, pod=pod.name)
            else:
                self.log(service.name, "INFO", "request", status=200, pod=pod.name)

    async def _ship(self, http: httpx.AsyncClient) -> None:
        lines, self.lines = self.lines, []
        now_ns = time.time_ns()
        streams = [
            {"stream": stream, "values": [[str(now_ns + number), line]]} for number, (stream, line) in enumerate(lines)
        ]
        if streams:
            answer = await http.post(f"{self._loki_url}/loki/api/v1/push", json={"streams": streams})
            assert answer.status_code == 204, answer.text

    async def _pod_page(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        for pod in self.pods:
            if pod.name == name and pod.ready and pod.service in self.services:
                return web.Response(text="\n".join(page(self.services[pod.service], pod)) + "\n")
        return web.Response(status=503)

    async def _other_page(self, request: web.Request) -> web.Response:
        what = request.match_info["what"]
        if what == "state":
            return web.Response(text="\n".join(self._state_page()) + "\n")
        if what == "kubelet":
            return web.Response(text="\n".join(self._kubelet_page()) + "\n")
        if what == "postgres":
            return web.Response(text="\n".join([line async for line in self._postgres_page()]) + "\n")
        return web.Response(status=404)

    def _state_page(self) -> Iterator[str]:
        for pod in self.pods:
            labels = f'namespace="{NAMESPACE}",pod="{pod.name}",container="{pod.service}"'
            for resource, unit, limit in (
                ("cpu", "core", pod.cpu_limit_cores),
                ("memory", "byte", pod.memory_limit_bytes),
            ):
                yield f'kube_pod_container_resource_limits{{{labels},resource="{resource}",unit="{unit}"}} {limit}'

    def _kubelet_page(self) -> Iterator[str]:
        for claim in self.claims:
            capacity = float(amount(claim["status"]["capacity"]["storage"]))
            labels = f'namespace="{NAMESPACE}",persistentvolumeclaim="{claim["metadata"]["name"]}"'
            yield f"kubelet_volume_stats_capacity_bytes{{{labels}}} {capacity}"
            yield f"kubelet_volume_stats_available_bytes{{{labels}}} {max(0.0, capacity - self.volume_used_bytes)}"

    async def _postgres_page(self) -> AsyncIterator[str]:
        assert self._database is not None
        yield "pg_up 1"
        yield f"pg_settings_max_connections {await self._database.fetchval('show max_connections')}"
        for row in await self._database.fetch(_ACTIVITY):
            labels = f'datname="{row["datname"]}",state="{row["state"]}"'
            yield f"pg_stat_activity_count{{{labels}}} {row['backends']}"


def _pod(found: Object) -> Pod:
    container = found["spec"]["containers"][0]
    conditions = found.get("status", {}).get("conditions") or ()
    limits = container.get("resources", {}).get("limits", {})
    return Pod(
        name=found["metadata"]["name"],
        service=found["metadata"].get("labels", {}).get("app", ""),
        ready=any(one["type"] == "Ready" and one["status"] == "True" for one in conditions),
        image=container["image"],
        env={one["name"]: one.get("value", "") for one in container.get("env") or ()},
        cpu_limit_cores=float(amount(limits.get("cpu", "1"))),
        memory_limit_bytes=float(amount(limits.get("memory", "256Mi"))),
    )
