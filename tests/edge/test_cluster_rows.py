"""What a cluster says, as rows: read from objects as the API server sends them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.edge.investigate._cluster_rows import (
    autoscaler,
    claim,
    concerning,
    event,
    pod,
    revisions,
    selector_text,
    time_ms,
    workload,
)

BORN = "2026-01-01T00:00:00Z"
BORN_MS = 1_767_225_600_000


def made(name: str, **rest: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": BORN}, **rest}


def status_of(**state: Any) -> dict[str, Any]:
    return {"name": "main", "restartCount": 3, **state}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, {"phase": "", "ready": False, "restarts": 0, "reason": "", "last_reason": "", "started_ms": 0}),
        (
            {
                "phase": "Running",
                "startTime": BORN,
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [status_of(state={"running": {}})],
            },
            {"phase": "Running", "ready": True, "restarts": 3, "reason": "", "last_reason": "", "started_ms": BORN_MS},
        ),
        (
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    status_of(
                        state={"waiting": {"reason": "CrashLoopBackOff"}},
                        lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    ),
                    {"name": "side", "restartCount": 2, "state": {"running": {}}},
                ],
            },
            {"ready": False, "restarts": 5, "reason": "CrashLoopBackOff", "last_reason": "OOMKilled"},
        ),
        ({"phase": "Failed", "reason": "Evicted"}, {"phase": "Failed", "reason": "Evicted"}),
    ],
)
def test_a_pod_says_why_it_does_not_run_and_how_it_ended_before(
    status: dict[str, Any], expected: dict[str, Any]
) -> None:
    row = pod(made("app-1", spec={"containers": [{"image": "app:1"}, {"image": "side:2"}]}, status=status))
    assert {key: row[key] for key in expected} == expected
    assert (row["name"], row["image"]) == ("app-1", "app:1, side:2")


TEMPLATE = {"spec": {"containers": [{"image": "app:2"}]}}


@pytest.mark.parametrize(
    ("kind", "one", "row"),
    [
        (
            "deployment",
            made(
                "app",
                kind="Deployment",
                spec={"replicas": 3, "paused": True, "template": TEMPLATE},
                status={"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
            ),
            {"replicas": 3, "ready": 1, "updated": 2, "available": 1, "paused": True},
        ),
        (
            "daemonset",
            made(
                "app",
                kind="DaemonSet",
                spec={"template": TEMPLATE},
                status={"desiredNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 2},
            ),
            {"replicas": 4, "ready": 3, "updated": 2, "available": 0, "paused": False},
        ),
    ],
)
def test_a_workload_says_how_far_it_is(kind: str, one: dict[str, Any], row: dict[str, Any]) -> None:
    assert workload(kind, one, 7) == {"kind": kind, "image": "app:2", "revision": 7, **row}


def owned(name: str, number: int, **rest: Any) -> dict[str, Any]:
    one = made(name, **rest)
    one["metadata"]["ownerReferences"] = [{"uid": "uid-app"}]
    one["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": str(number)}
    return one


def test_revisions_come_newest_first_and_only_the_workloads_own() -> None:
    sets = [
        owned("app-1", 9, spec={"template": {"spec": {"containers": [{"image": "app:1"}]}}}),
        owned("app-2", 10, spec={"template": TEMPLATE}),
        made("other", spec={"template": TEMPLATE}),
    ]
    assert revisions(made("app"), sets) == [
        {"revision": 10, "image": "app:2", "created_ms": BORN_MS, "current": True},
        {"revision": 9, "image": "app:1", "created_ms": BORN_MS, "current": False},
    ]


def test_a_stateful_set_names_the_revision_that_is_rolled_out() -> None:
    kept = [owned(f"app-{n}", 0, revision=n, data={"spec": {"template": TEMPLATE}}) for n in (3, 5, 4)]
    found = revisions(made("app", status={"updateRevision": "app-4"}), kept)
    assert [(row["revision"], row["current"]) for row in found] == [(5, False), (4, True), (3, False)]


def test_a_claim_has_its_sizes_in_bytes_and_an_autoscaler_what_it_scales() -> None:
    one = made(
        "data",
        spec={"resources": {"requests": {"storage": "2Gi"}}, "storageClassName": "fast"},
        status={"phase": "Bound", "capacity": {"storage": "1Gi"}},
    )
    assert claim(one) == {
        "kind": "persistentvolumeclaim",
        "phase": "Bound",
        "requested_bytes": 2 * 1024**3,
        "capacity_bytes": 1024**3,
        "storage_class": "fast",
    }
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "app"}, "minReplicas": 2, "maxReplicas": 9}
    scaled = autoscaler(made("app", spec=spec, status={"currentReplicas": 3, "desiredReplicas": 4}))
    assert scaled == {
        "kind": "horizontalpodautoscaler",
        "replicas": 3,
        "desired": 4,
        "min": 2,
        "max": 9,
        "workload": "deployment/app",
    }


@pytest.mark.parametrize(
    ("given", "at_ms", "count"),
    [
        ({"lastTimestamp": BORN, "count": 4}, BORN_MS, 4),
        ({"eventTime": "2026-01-01T00:00:01.500000Z"}, BORN_MS + 1500, 1),
        ({"series": {"count": 7, "lastObservedTime": "2026-01-01T00:01:00Z"}, "eventTime": BORN}, BORN_MS + 60_000, 7),
        ({}, BORN_MS, 1),
    ],
)
def test_an_event_has_its_last_time_and_how_often_it_was(given: dict[str, Any], at_ms: int, count: int) -> None:
    about = {"kind": "Pod", "name": "app-1"}
    row = event(made("e", involvedObject=about, reason="BackOff", message="restarting", **given))
    assert row == {"at_ms": at_ms, "reason": "BackOff", "message": "restarting", "object": "pod/app-1", "count": count}


@pytest.mark.parametrize(
    ("kind", "about", "yes"),
    [
        ("deployment", "deployment/app", True),
        ("deployment", "replicaset/app-5d4", True),
        ("deployment", "pod/app-5d4-x7z9q", True),  # also when the pod is gone
        ("deployment", "pod/app-worker-5d4-x7z9q", False),
        ("deployment", "deployment/app-worker", False),
        ("deployment", "statefulset/app", False),
        ("statefulset", "pod/app-0", True),
        ("statefulset", "pod/app-x", False),
        ("daemonset", "pod/app-x7z9q", True),
        ("pod", "pod/app", True),
        ("pod", "pod/app-0", False),
    ],
)
def test_events_of_a_workload_are_those_of_its_pods_too(kind: str, about: str, yes: bool) -> None:
    assert concerning(kind, "app", ["app-5d4"])(about) is yes


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"app": "a", "tier": "web"}}, "app=a,tier=web"),
        (
            {
                "matchExpressions": [
                    {"key": "app", "operator": "In", "values": ["a", "b"]},
                    {"key": "env", "operator": "NotIn", "values": ["dev"]},
                    {"key": "x", "operator": "Exists"},
                    {"key": "y", "operator": "DoesNotExist"},
                ]
            },
            "app in (a,b),env notin (dev),x,!y",
        ),
    ],
)
def test_a_selector_is_written_as_the_server_reads_it(selector: dict[str, Any], text: str) -> None:
    assert selector_text(selector) == text


def test_no_time_is_zero() -> None:
    assert (time_ms(None), time_ms(BORN)) == (0, BORN_MS)
