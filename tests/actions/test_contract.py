"""What every action of the folder promises; a new file is tested here without being named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from engine.actions import Action, Environment, HttpHost, Plan, load_actions
from engine.core.masking import MASK
from engine.core.messages import Target
from engine.edge.kubernetes import open_kubernetes
from tests.cluster import Cluster, manifest
from tests.docker.conftest import Project, service
from tests.kms.conftest import Kms
from tests.kms_server import CREDENTIALS, running_kms
from tests.waiting import until

ACTIONS = load_actions()

KEY_ID = "0" * 36
"""Stands for the id of the key that was replaced."""
GOOD: dict[str, dict[str, Any]] = {
    "http.request": {"method": "POST", "path": "/change", "json": {"a": 1}, "check": {"path": "/", "expect": "true"}},
    "postgres.terminate_idle": {"idle_minutes": 0.000001, "roles": ["contract_app"]},
    "postgres.cancel_long_queries": {"older_than_s": 0.000001, "roles": ["contract_app"]},
    "postgres.analyze": {"tables": ["public.contract_orders"]},
    "postgres.vacuum": {"tables": ["public.contract_orders"]},
    "postgres.create_index_concurrently": {"table": "public.contract_orders", "columns": ["customer"]},
    "postgres.alter_system": {"setting": "log_lock_waits", "value": True},
    "compose.restart": {"within_s": 0},
    "compose.recreate": {"within_s": 0},
    "kms.rotate_signing_key": {},
    "kms.disable_key": {"key_id": KEY_ID, "grace_s": 0},
    "kubernetes.autoscale": {"workload": "deployment/app", "max_replicas": 5, "cpu_percent": 70, "within_s": 0},
    "kubernetes.delete_pod": {"within_s": 0},
    "kubernetes.expand_pvc": {"by_percent": 50, "ceiling": "10Gi", "within_s": 0},
    "kubernetes.rollout_restart": {"within_s": 0},
    "kubernetes.rollout_undo": {"within_s": 0},
    "kubernetes.scale": {"by": 1, "ceiling": 5, "within_s": 0},
    "kubernetes.set_env": {"env": {"LEVEL": "secret-token"}, "within_s": 0},
    "kubernetes.set_resources": {"limits": {"memory": "1Gi"}, "within_s": 0},
}
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("compose.restart", {"within_s": -1}, "within_s"),
    ("compose.restart", {"services": ["web"]}, "services"),
    ("compose.recreate", {"allow_changes": "yes"}, "allow_changes"),
    ("compose.recreate", {"pull": True}, "pull"),
    ("kms.rotate_signing_key", {"key_id": KEY_ID}, "key_id"),
    ("kms.disable_key", {}, "key_id"),
    ("kms.disable_key", {"key_id": "alias/bridge"}, "key_id"),
    ("kms.disable_key", {"key_id": KEY_ID, "grace_s": -1}, "grace_s"),
    ("http.request", {"method": "POST"}, "path"),
    ("http.request", {"method": "TRACE", "path": "/"}, "method"),
    ("http.request", {"method": "GET", "path": "/", "url": "http://x"}, "url"),
    ("http.request", {"method": "GET", "path": "/", "expect_status": []}, "expect_status"),
    ("http.request", {"method": "GET", "path": "/", "expect_status": [20]}, "expect_status"),
    ("http.request", {"method": "GET", "path": "/", "timeout_s": 0}, "timeout_s"),
    ("http.request", {"method": "GET", "path": "/", "timeout_s": 3600}, "timeout_s"),
    ("http.request", {"method": "GET", "path": "/", "check": {"path": "/", "expect": "status =="}}, "CEL"),
    ("http.request", {"method": "GET", "path": "/", "check": {"path": "/..", "expect": "true"}}, "check"),
    (
        "http.request",
        {"method": "GET", "path": "/", "check": {"path": "/", "expect": "true", "method": "POST"}},
        "check",
    ),
    ("postgres.terminate_idle", {"idle_minutes": 10}, "roles"),
    ("postgres.terminate_idle", {"idle_minutes": 10, "roles": []}, "roles"),
    ("postgres.terminate_idle", {"idle_minutes": 0, "roles": ["a"]}, "idle_minutes"),
    ("postgres.terminate_idle", {"idle_minutes": "10; drop table x", "roles": ["a"]}, "idle_minutes"),
    ("postgres.terminate_idle", {"idle_minutes": 10, "roles": ["a"], "max_count": 0}, "max_count"),
    ("postgres.terminate_idle", {"idle_minutes": 10, "roles": ["a"], "where": "true"}, "where"),
    ("postgres.cancel_long_queries", {"older_than_s": 10}, "roles"),
    ("postgres.cancel_long_queries", {"older_than_s": 10, "roles": []}, "roles"),
    ("postgres.cancel_long_queries", {"older_than_s": 10, "roles": ["a"], "applications": []}, "applications"),
    ("postgres.cancel_long_queries", {"older_than_s": 0, "roles": ["a"]}, "older_than_s"),
    ("postgres.cancel_long_queries", {"older_than_s": 10, "roles": ["a"], "max_count": 0}, "max_count"),
    ("postgres.analyze", {"tables": []}, "tables"),
    ("postgres.analyze", {"tables": ["orders"]}, "tables"),
    ("postgres.analyze", {"tables": ["public.orders"], "timeout_s": 0}, "timeout_s"),
    ("postgres.vacuum", {"tables": ["public.orders"], "full": True}, "full"),
    ("postgres.vacuum", {"tables": ["public.orders"], "analyze": "yes"}, "analyze"),
    ("postgres.vacuum", {"tables": ["public.orders"], "lock_timeout_s": 3600}, "lock_timeout_s"),
    ("postgres.create_index_concurrently", {"table": "orders", "columns": ["a"]}, "table"),
    ("postgres.create_index_concurrently", {"table": "public.orders", "columns": []}, "columns"),
    ("postgres.create_index_concurrently", {"table": "a.b", "columns": ["a"], "method": "x"}, "method"),
    ("postgres.create_index_concurrently", {"table": "a.b", "columns": ["a"], "name": "x"}, "name"),
    ("postgres.alter_system", {"value": 1}, "setting"),
    ("postgres.alter_system", {"setting": "work_mem = 1; --", "value": 1}, "setting"),
    ("postgres.alter_system", {"setting": "work_mem", "value": []}, "value"),
    ("kubernetes.autoscale", {}, "give min_replicas"),
    ("kubernetes.autoscale", {"max_replicas": 0}, "max_replicas"),
    ("kubernetes.autoscale", {"max_replicas": 2, "workload": "daemonset/app"}, "workload"),
    ("kubernetes.autoscale", {"max_replicas": 2, "workload": "deployment/../app"}, "workload"),
    ("kubernetes.delete_pod", {"force": True}, "force"),
    ("kubernetes.delete_pod", {"grace_s": 0}, "grace_s"),
    ("kubernetes.expand_pvc", {"size": "2Gi"}, "ceiling"),
    ("kubernetes.expand_pvc", {"ceiling": "2Gi"}, "size or by_percent"),
    ("kubernetes.expand_pvc", {"ceiling": "2Gi", "size": "1Gi", "by_percent": 10}, "size or by_percent"),
    ("kubernetes.expand_pvc", {"ceiling": "2Gi", "size": "2049Mi"}, "above ceiling"),
    ("kubernetes.rollout_restart", {"within_s": 3600}, "within_s"),
    ("kubernetes.rollout_restart", {"replicas": 0}, "replicas"),
    ("kubernetes.rollout_undo", {"revision": 0}, "revision"),
    ("kubernetes.scale", {"by": 1}, "ceiling"),
    ("kubernetes.scale", {"ceiling": 5}, "replicas or by"),
    ("kubernetes.scale", {"ceiling": 5, "by": 0}, "replicas or by"),
    ("kubernetes.scale", {"ceiling": 5, "by": 1, "replicas": 3}, "replicas or by"),
    ("kubernetes.scale", {"ceiling": 5, "replicas": 0}, "replicas"),
    ("kubernetes.scale", {"ceiling": 5, "replicas": 6}, "ceiling 5"),
    ("kubernetes.scale", {"ceiling": 5, "floor": 6, "by": 1}, "floor 6"),
    ("kubernetes.scale", {"ceiling": 5, "floor": -1, "by": 1}, "floor"),
    ("kubernetes.set_env", {"env": {}}, "env"),
    ("kubernetes.set_env", {"env": {"1A": "x"}}, "env"),
    ("kubernetes.set_env", {"env": {"A": 1}}, "env"),
    ("kubernetes.set_resources", {}, "requests or limits"),
    ("kubernetes.set_resources", {"limits": {"memory": "1 GB"}}, "limits"),
    ("kubernetes.set_resources", {"limits": {"memory": "-1Gi"}}, "limits"),
    ("kubernetes.set_resources", {"limits": {"disk": "1Gi"}}, "limits"),
]


ON_REAL_SYSTEMS = [
    pytest.param(action, id=name, marks=[pytest.mark.real] if action.target_kind in ("kubernetes", "compose") else [])
    for name, action in ACTIONS.items()
]


# Analyzed, vacuumed, indexed, and a setting.
_SEEN = """
select last_analyze, last_vacuum, relhasindex, current_setting('log_lock_waits')
from pg_stat_user_tables s join pg_class c on c.oid = s.relid where s.relname = 'contract_orders'
"""


class Systems:
    """The real systems, how many changes they saw, and what each action acts on there."""

    def __init__(self) -> None:
        self.changes = 0
        self.cluster: Cluster | None = None
        self.namespace = ""
        self.project: Project | None = None
        self.kms: Kms | None = None
        self.replaced = ""

    @asynccontextmanager
    async def reached(self, kind: str, part: Any, folder: Path) -> AsyncIterator[dict[str, Any]]:
        """What an environment needs to reach something of this kind, which is made for it."""
        if kind == "kubernetes":
            self.use(part)
            async with open_kubernetes(part.kubeconfig(), "", 10.0) as api:
                yield {"kubernetes": api}
        elif kind == "compose":
            self.project = Project(part, folder, "contract")
            self.project.up(web=service())
            yield {"compose": self.project.env.compose}
            self.project.down()
        elif kind == "kms":
            with running_kms() as url:
                self.kms = Kms(url)
                self.replaced = self.kms.key()
                await self.kms.rotate("before").through()
                yield {"kms": self.kms.env.kms}
        else:
            yield {}

    def use(self, cluster: Cluster) -> None:
        """Act on a Deployment of two pods that runs in its second revision."""
        self.cluster, self.namespace = cluster, cluster.namespace()
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        cluster.create(path, manifest("app", replicas=2))
        cluster.settled(f"{path}/app")
        cluster.patch(f"{path}/app", {"spec": {"template": {"metadata": {"annotations": {"change": "1"}}}}})
        cluster.settled(f"{path}/app")
        cluster.volume(self.namespace, "data", "1Gi")

    def params(self, action: Action) -> Any:
        """The good parameters, and of a key that was replaced its id."""
        replaced = {"key_id": self.replaced} if "key_id" in GOOD[action.name] else {}
        return action.decode_params(GOOD[action.name] | replaced)

    def target(self, action: Action) -> Target:
        if self.project is not None:
            return Target("compose", f"{self.project.name}/web")
        if self.kms is not None:
            return Target("kms", "bridge")
        if self.cluster is None:
            return Target(action.target_kind, "main")
        things = {
            "kubernetes.autoscale": "horizontalpodautoscaler/app",
            "kubernetes.delete_pod": f"pod/{self.cluster.pods(self.namespace)[0]['metadata']['name']}",
            "kubernetes.expand_pvc": "persistentvolumeclaim/data",
        }
        return Target("kubernetes", f"{self.namespace}/{things.get(action.name, 'deployment/app')}")

    def seen(self) -> Any:
        """What may not change: requests counted, containers, keys, the version of every object in the namespace."""
        if self.project is not None:
            return self.project.containers("web")
        if self.kms is not None:
            return [(self.kms.at(key), self.kms.tags(key)) for key in sorted(self.kms.keys())], self.kms.at()
        if self.cluster is None:
            return self.changes
        core, apps, scaling = "api/v1", "apis/apps/v1", "apis/autoscaling/v2"
        kinds = [(core, "pods"), (core, "persistentvolumeclaims"), (apps, "deployments")]
        lists = [
            self.cluster.get(f"/{group}/namespaces/{self.namespace}/{plural}")["items"]
            for group, plural in [*kinds, (scaling, "horizontalpodautoscalers")]
        ]
        return [(one["metadata"]["uid"], one["metadata"]["resourceVersion"]) for found in lists for one in found]

    async def handle(self, request: web.Request) -> web.Response:
        self.changes += request.method != "GET"
        return web.json_response({})


@pytest.fixture
def systems() -> Systems:
    return Systems()


@pytest_asyncio.fixture
async def environment(
    systems: Systems, postgres_url: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Environment]:
    kind = request.node.callspec.params["action"].target_kind
    needed = {"kubernetes": "cluster", "compose": "docker"}.get(kind)
    part = request.getfixturevalue(needed) if needed else None  # skips where there is none
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", systems.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    admin = await asyncpg.connect(postgres_url)
    await admin.execute("drop table if exists contract_orders; drop role if exists contract_app")
    await admin.execute("create table contract_orders (customer int); create role contract_app login")
    idle, busy = [await asyncpg.connect(postgres_url.replace("postgres@", "contract_app@")) for _ in range(2)]
    at_work = asyncio.ensure_future(busy.execute("select pg_sleep(60)"))
    await until(lambda: admin.fetchval("select 1 from pg_stat_activity where query = 'select pg_sleep(60)'"))
    async with httpx.AsyncClient() as client:
        host = HttpHost(f"http://127.0.0.1:{runner.addresses[0][1]}", "secret-token")
        made = Environment({"main": host}, {"main": postgres_url}, client, asyncpg.connect, _no_wait)
        made = replace(made, postgres_settings=frozenset({"log_lock_waits"}))
        async with systems.reached(kind, part, tmp_path) as reached:
            yield replace(made, command="contract", **reached)
    assert await idle.fetchval("select 1") == 1, "the plan has ended a connection"
    assert not at_work.done(), "the plan has cancelled a query"
    assert await admin.fetchrow(_SEEN) == (None, None, False, "off"), "the plan has changed the database"
    at_work.cancel()
    await asyncio.gather(at_work, return_exceptions=True)
    await idle.close()
    await busy.close()
    await admin.execute("drop table contract_orders; drop role contract_app")
    await admin.close()
    await runner.cleanup()


async def _no_wait(duration_s: float) -> None:
    """Tests do not wait."""


def test_the_seeds_actions_are_there() -> None:
    assert {"http.request", "postgres.terminate_idle"} <= set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_declares_everything(action: Action) -> None:
    assert action.name == action.name.lower()
    assert action.summary.endswith(".")
    assert action.target_kind
    assert action.permissions
    assert all(str(permission) for permission in action.permissions)
    assert isinstance(action.destructive, bool)
    assert action.params.__doc__
    for function in (action.plan, action.run, action.verify):
        assert function.__doc__, function


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_has_examples_here(action: Action) -> None:
    assert action.name in GOOD
    assert any(name == action.name for name, _, _ in BAD)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_the_schema_of_the_parameters_allows_nothing_undeclared(action: Action) -> None:
    schema = action.params_schema()
    definition = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    assert definition["additionalProperties"] is False
    assert msgspec.json.encode(schema)


@pytest.mark.parametrize(("name", "params", "named"), BAD)
def test_bad_parameters_are_refused_and_named(name: str, params: dict[str, Any], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        ACTIONS[name].decode_params(params)


@pytest.mark.parametrize("action", ON_REAL_SYSTEMS)
async def test_a_plan_is_data_and_changes_nothing(action: Action, environment: Environment, systems: Systems) -> None:
    params, target, before = systems.params(action), systems.target(action), systems.seen()
    for _ in range(2):
        plan = await action.plan(environment, target, params)
        assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
        assert plan.changes, "the plan sees the target"
        assert "secret-token" not in str(plan)
    assert systems.seen() == before


@pytest.mark.parametrize("action", ON_REAL_SYSTEMS)
async def test_a_check_is_an_answer_and_changes_nothing(
    action: Action, environment: Environment, systems: Systems
) -> None:
    target, params, before = systems.target(action), systems.params(action), systems.seen()
    plan = await action.plan(environment, target, params)
    check = await action.verify(environment, target, params, plan)
    assert check.state in ("yes", "no")
    assert check.why
    assert systems.seen() == before


def test_an_environment_shows_no_secrets() -> None:
    env = Environment(
        {"main": HttpHost("http://h", "secret-token")},
        {"db": "postgresql://u:pa55@h/d"},
        httpx.AsyncClient.__new__(httpx.AsyncClient),
        asyncpg.connect,
        _no_wait,
    )
    assert "secret-token" not in repr(env)
    assert "pa55" not in repr(env)
    said = "Bearer secret-token at postgresql://u:pa55@h/d, and pa55, and http://x:y/z#w@h"
    assert env.redact(said) == f"Bearer {MASK} at postgresql://u:{MASK}@h/d, and {MASK}, and http://x:{MASK}@h"
    assert env.allows(Target("http", "main"))
    assert not env.allows(Target("postgres", "main"))
    assert not env.allows(Target("docker", "main"))
    assert not env.allows(Target("kms", "main"))
    assert not env.allows(Target("compose", "main/web"))
