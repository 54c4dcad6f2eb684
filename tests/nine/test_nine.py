"""The nine alerts of the seed on real systems: fault, alert, evidence, command, changed system, verified, report.

Rows that do not touch each other run side by side. What went wrong is put right by Sentinel alone, with the shipped
rules and runbooks (their times divided: `shortened`), and by people who agree where they are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from tests.nine import faults, scenery
from tests.nine.conftest import PROCESSES
from tests.nine.container import PROJECT
from tests.nine.rows import Handled, Row, Wanted, Waves
from tests.nine.signatures import KEY_VARIABLE
from tests.nine.town import NAMESPACE
from tests.nine.world import World

pytestmark = [pytest.mark.real, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]


async def _bridge_is_restarted(world: World) -> str:
    found = world.cluster.get(f"{scenery.APPS}/deployments/bridge")
    assert found["spec"]["template"]["metadata"]["annotations"]["aureus-sentinel/restarted-by"]
    assert found["status"]["readyReplicas"] == found["spec"]["replicas"], found["status"]
    assert not {pod.name for pod in world.town.ready("bridge")} & world.cluster.unready
    return f"{found['status']['readyReplicas']} new pods are ready"


async def _openclaw_runs_the_old_image(world: World) -> str:
    (container,) = world.cluster.get(f"{scenery.APPS}/deployments/openclaw")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "app:1", container
    assert {pod.image for pod in world.town.ready("openclaw")} == {"app:1"}
    return "all pods run app:1"


async def _the_full_pod_is_gone(world: World) -> str:
    names = {pod.name for pod in world.town.ready("aureus-os")}
    assert len(names) >= scenery.REPLICAS["aureus-os"], names
    assert not names & world.town.services["aureus-os"].leaking, names
    return "the full pod is gone, a new one is ready"


async def _connections_are_free(world: World) -> str:
    asked = "select count(*) from pg_stat_activity where usename = 'aureus'"
    left = await world.gateway.database.fetchval(asked)
    closed = sum(conn.is_closed() for conn in world.leaked)
    assert closed >= 50, f"{closed} closed, {left} left"
    return f"{closed} connections ended, {left} left"


def _has_one_more(service: str, than: int) -> Callable[[World], Awaitable[str]]:
    async def check(world: World) -> str:
        found = world.cluster.get(f"{scenery.APPS}/deployments/{service}")
        assert found["spec"]["replicas"] == found["status"]["readyReplicas"] == than + 1, found["status"]
        return f"{than} -> {than + 1} pods, all ready"

    return check


async def _attacker_is_blocked(world: World) -> str:
    assert world.gateway.blocked == {faults.ATTACKER: "policy_violation_spike"}
    return f"{faults.ATTACKER} is on OpenClaw's blocklist"


async def _channels_have_a_limit(world: World) -> str:
    env = scenery.env_of(world.cluster, "openclaw")
    assert env["MAX_CONNECTIONS_PER_CHANNEL"] == "500", env
    assert {pod.env.get("MAX_CONNECTIONS_PER_CHANNEL") for pod in world.town.ready("openclaw")} == {"500"}
    return "all pods have a limit of 500"


async def _bridge_has_a_new_key(world: World) -> str:
    key = world.kms.key_of_alias()
    assert key != world.kms.first_key
    assert world.kms.state_of(world.kms.first_key) == "Disabled"
    assert scenery.env_of(world.cluster, "bridge")[KEY_VARIABLE] == key
    pods = world.town.ready("bridge")
    assert [pod.env[KEY_VARIABLE] for pod in pods] == [key] * scenery.REPLICAS["bridge"], pods
    return f"{len(pods)} pods verify with a new key, the old one is disabled"


async def _container_runs_again(world: World) -> str:
    found = world.container.look()
    assert found["Id"] == world.container.first
    assert found["State"]["Running"], found["State"]
    return "the same container runs again"


def _deployment(name: str) -> str:
    return f"kubernetes:{NAMESPACE}/deployment/{name}"


WAVES = (
    (
        Row(
            alert="ServiceDown",
            labels={"service": "bridge"},
            fault=faults.pods_stop_answering,
            evidence=("status", "pods", "revisions", "events", "answers"),
            commands=(Wanted("kubernetes.rollout_restart", _deployment("bridge"), {"allow_outage": True}),),
            changed=_bridge_is_restarted,
        ),
        Row(
            alert="HighErrorRate",
            labels={"service": "openclaw"},
            fault=faults.release_fails_requests,
            evidence=("revisions", "healthy"),
            commands=(Wanted("kubernetes.rollout_undo", _deployment("openclaw")),),
            changed=_openclaw_runs_the_old_image,
            approve={"kubernetes.rollout_undo": "api"},
        ),
        Row(
            alert="HighMemoryUsage",
            labels={"service": "aureus-os", "severity": "critical"},
            fault=faults.memory_leaks,
            evidence=("usage", "pods", "freed"),
            commands=(Wanted("kubernetes.delete_pod", f"kubernetes:{NAMESPACE}/pod/*"),),
            changed=_the_full_pod_is_gone,
        ),
    ),
    (
        Row(
            alert="SignatureFailures",
            labels={"service": "bridge", "reason": "tampered"},
            fault=faults.key_is_stolen,
            evidence=("traces", "before", "isolated", "restored", "retired"),
            commands=(
                Wanted("kubernetes.scale", _deployment("bridge"), {"replicas": 0, "allow_outage": True}),
                Wanted("kms.rotate_signing_key", "kms:bridge"),
                Wanted("kubernetes.set_env", _deployment("bridge")),
                Wanted("kubernetes.scale", _deployment("bridge"), {"replicas": scenery.REPLICAS["bridge"]}),
                Wanted("kms.disable_key", "kms:bridge"),
            ),
            changed=_bridge_has_a_new_key,
            approve={"kubernetes.scale": "slack", "kubernetes.set_env": "cli"},
            alarms=True,
            mailed=frozenset({"security@your-org.com", "manager@your-org.com"}),
        ),
        Row(
            alert="HighCPUUsage",
            labels={"service": "openclaw"},
            fault=faults.cpu_is_busy,
            evidence=("usage", "cooler"),
            commands=(Wanted("kubernetes.scale", _deployment("openclaw"), {"by": 1}),),
            changed=_has_one_more("openclaw", 2),
            approve={"kubernetes.scale": "cli"},
        ),
        Row(
            alert="HighLatency",
            labels={"service": "aureus-os"},
            fault=faults.requests_take_long,
            evidence=("cpu", "faster"),
            commands=(Wanted("kubernetes.scale", _deployment("aureus-os"), {"by": 1}),),
            changed=_has_one_more("aureus-os", 2),
            approve={"kubernetes.scale": "api"},
        ),
    ),
    (
        Row(
            alert="ServiceDown",
            labels={"service": "bridge", "runtime": "compose"},
            fault=faults.container_dies,
            evidence=("lines", "answers"),
            commands=(Wanted("compose.restart", f"compose:{PROJECT}/bridge"),),
            changed=_container_runs_again,
            name="ServiceDown (Compose)",
        ),
        Row(
            alert="DatabaseFailure",
            labels={"service": "postgres", "reason": "connections"},
            fault=faults.connections_leak,
            evidence=("sessions", "freed"),
            commands=(Wanted("postgres.terminate_idle", f"postgres:{faults.LEAKING_DATABASE}", {"roles": ["aureus"]}),),
            changed=_connections_are_free,
        ),
        Row(
            alert="PolicyViolationSpike",
            labels={"service": "aureus-os"},
            fault=faults.user_breaks_policies,
            evidence=("suspects", "policies", "stopped"),
            commands=(Wanted("http.request", "http:openclaw", {"path": "/api/admin/blocklist"}),),
            changed=_attacker_is_blocked,
        ),
        Row(
            alert="ConnectionOverload",
            labels={"service": "openclaw"},
            fault=faults.clients_stay_connected,
            evidence=("opened", "closed", "active", "drained"),
            commands=(
                Wanted("kubernetes.set_env", _deployment("openclaw"), {"env": {"MAX_CONNECTIONS_PER_CHANNEL": "500"}}),
            ),
            changed=_channels_have_a_limit,
            approve={"kubernetes.set_env": "cli"},
        ),
    ),
)
ROWS = [row for wave in WAVES for row in wave]
DONE: list[Handled] = []
NOT_ASKED_FOR = f"/api/v1/namespaces/{NAMESPACE}/secrets"


@pytest.fixture(scope="module")
def chosen(request: pytest.FixtureRequest) -> list[str]:
    """The titles of the rows that this run of pytest has selected: with `-k`, the others need not be waited for."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return [call["row"].title for call in calls if isinstance(call.get("row"), Row)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def waves(world: World, chosen: list[str]) -> AsyncIterator[Waves]:
    made = Waves(world, [[row for row in wave if row.title in chosen] for wave in WAVES])
    yield made
    await made.cancel()


@pytest.mark.parametrize("row", ROWS, ids=[row.title for row in ROWS])
async def test_the_alert_is_handled_from_the_fault_to_the_report(row: Row, waves: Waves) -> None:
    DONE.append(await waves.handled(row))


async def test_the_audit_holds_and_every_alert_has_its_row(
    world: World, chosen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(table(DONE))
    assert "the audit chain holds" in await world.sentinel("audit", "verify")
    assert [one.alert for one in DONE] == chosen


@pytest.mark.parametrize("process", PROCESSES)
async def test_what_was_printed_was_enough(world: World, process: str) -> None:
    said = world.programs[process].log.read_text(encoding="utf-8")
    assert "permission_missing" not in said, said
    assert "permissions_unknown" not in said, said


async def test_and_it_was_no_more_than_that(world: World) -> None:
    """What nobody asks for is forbidden: to the cluster's account, to the database's role, to the user of KMS."""
    executor = world.settings["act"]["executor"]
    assert scenery.status_as(world.cluster, executor["kubernetes"]["kubeconfig"], NOT_ASKED_FOR) == 403
    database = await asyncpg.connect(executor["databases"]["bridge"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute("delete from audit_log")
    await database.close()
    with pytest.raises(ClientError, match="not authorized to perform: kms:ScheduleKeyDeletion"):
        world.kms.client_of("executor").schedule_key_deletion(KeyId=world.kms.first_key)


async def test_the_processes_end_in_good_order(world: World) -> None:
    assert await asyncio.to_thread(world.stop) == dict.fromkeys(PROCESSES, 0)


def table(rows: list[Handled]) -> str:
    """One line for each alert."""
    head = ("alert", "fault", "command", "changed", "verified after the fault", "report")
    cells = [head] + [
        (one.alert, one.fault, one.commands, one.changed, f"{one.verified_after_s:.0f} s", one.report) for one in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n" + "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])
