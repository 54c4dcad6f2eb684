"""What the Kubernetes actions decide from JSON alone, as tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions import KubernetesRule, RefusedError, ServiceAccess, SqlGrant, load_actions
from engine.actions import kubernetes_scale as scale
from engine.actions._kubernetes import (
    DEPLOYMENTS,
    EVICTIONS,
    KINDS,
    PODS,
    ConflictError,
    NoAnswerError,
    ObjectRef,
    Request,
    refusal,
)
from engine.actions._permissions import merged_rules, needed_for, rbac_manifests
from engine.actions._quantity import amount
from engine.actions._sql import sql_grants
from engine.actions._workload import container_of, differences, refuse_rollout, rollout, unavailable_at_most
from engine.actions.kubernetes_delete_pod import controller_of, is_ready
from engine.actions.kubernetes_expand_pvc import Params as Expansion
from engine.actions.kubernetes_expand_pvc import growth, wanted_size
from engine.actions.kubernetes_rollout_undo import choose, revisions
from engine.actions.kubernetes_set_env import with_env
from engine.core.masking import MASK

T = TypeVar("T")


def reason_or(decide: Callable[[], T]) -> T | str:
    """What is decided, or why it is refused."""
    try:
        return decide()
    except RefusedError as error:
        return error.reason


# Names ---------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=80) | st.from_regex(r"[a-z./%?-]{1,10}/(deployment|pod)/[a-z./%?-]{1,20}", fullmatch=True))
def test_a_target_is_three_valid_names_or_none_at_all(text: str) -> None:
    ref = ObjectRef.parse(text)
    if ref is not None:
        path = ref.resource.path(ref.namespace, ref.name)
        assert re.fullmatch(r"/(apis/[a-z]+|api)(/v\d)(/[a-z0-9]([-a-z0-9.]*[a-z0-9])?)+", path)
        assert ".." not in path
        assert text == f"{ref.namespace}/{ref.kind}/{ref.name}"


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/deployment", "a/deployment/", "/deployment/b", "a/node/b", "A/deployment/b", "a/deployment/b/c",
     "a/deployment/..", "a/deployment/b\n", "a.b/deployment/c", f"{'a' * 64}/pod/b", f"a/pod/{'b' * 254}"],
)  # fmt: skip
def test_other_texts_are_no_target(text: str) -> None:
    assert ObjectRef.parse(text) is None


def test_a_target_of_another_kind_is_refused() -> None:
    with pytest.raises(RefusedError, match="deployment or statefulset") as caught:
        ObjectRef.of_kind("a/pod/b", "deployment", "statefulset")
    assert caught.value.reason == "wrong_kind"


# Workloads -----------------------------------------------------------------------------------------------------------


def workload(kind: str = "Deployment", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main"}]}}
    return {
        "kind": kind,
        "metadata": {"name": "app", "uid": "u", "generation": 2},
        "spec": {"template": template, **spec},
        "status": {"observedGeneration": 2, **(status or {})},
    }


def rolling(**numbers: Any) -> dict[str, Any]:
    return {"strategy": {"type": "RollingUpdate", "rollingUpdate": numbers}}


@pytest.mark.parametrize(
    ("spec", "at_most"),
    [
        ({"replicas": 1}, 0),  # 25 % of 1 rounds down, the surge up
        ({"replicas": 4}, 1),
        ({"replicas": 7}, 1),
        ({"replicas": 8}, 2),
        ({"replicas": 3, **rolling(maxSurge=0, maxUnavailable="10%")}, 1),  # both 0 would never move
        ({"replicas": 3, **rolling(maxSurge=1, maxUnavailable=2)}, 2),
        ({"replicas": 3, **rolling(maxSurge="1%", maxUnavailable="100%")}, 3),
        ({"replicas": 3, "strategy": {"type": "Recreate"}}, 3),
    ],
)
def test_a_deployment_takes_away_so_many_pods_at_once(spec: dict[str, Any], at_most: int) -> None:
    assert unavailable_at_most(workload(**spec)) == at_most


@pytest.mark.parametrize(("strategy", "at_most"), [({}, 1), ({"maxUnavailable": 2}, 2), ({"maxUnavailable": "10%"}, 1)])
def test_a_stateful_set_takes_away_at_least_one(strategy: dict[str, Any], at_most: int) -> None:
    spec = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": strategy}}
    assert unavailable_at_most(workload("StatefulSet", replicas=5, **spec)) == at_most


RECREATE = {"strategy": {"type": "Recreate"}}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (workload(replicas=1, status={"readyReplicas": 1}), None),
        (workload(replicas=3, status={"readyReplicas": 1}, **RECREATE), "last_healthy_replica"),
        (workload(replicas=3, status={}, **RECREATE), None),  # nothing is left to lose
        (workload("StatefulSet", replicas=1, status={"readyReplicas": 1}), "last_healthy_replica"),
        (workload("StatefulSet", replicas=2, status={"readyReplicas": 1}), None),
        (workload("DaemonSet", status={"desiredNumberScheduled": 1, "numberReady": 1}), "last_healthy_replica"),
        (workload(replicas=3, paused=True), "rollout_paused"),
        (workload("StatefulSet", replicas=3, updateStrategy={"type": "OnDelete"}), "on_delete"),
    ],
)
def test_a_rollout_is_refused_where_it_would_end_the_last_pod_or_not_take_place(
    found: dict[str, Any], reason: str | None
) -> None:
    assert reason_or(lambda: refuse_rollout(found, allow_outage=False)) == reason


STUCK = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (workload(replicas=2, status={"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}), "complete"),
        (workload(replicas=2, status={"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}), "progressing"),
        (workload(replicas=2, status={"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}), "progressing"),
        (workload(replicas=2, status={"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}), "progressing"),
        (
            workload(
                replicas=1,
                status={"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
            ),
            "progressing",
        ),
        (workload(replicas=2, status={"conditions": [STUCK]}), "stuck"),
        (
            workload(
                "StatefulSet",
                replicas=2,
                status={"replicas": 2, "availableReplicas": 2, "currentRevision": "b", "updateRevision": "b"},
            ),
            "complete",
        ),
        (
            workload(
                "StatefulSet",
                replicas=2,
                status={
                    "replicas": 2,
                    "updatedReplicas": 1,
                    "availableReplicas": 2,
                    "currentRevision": "a",
                    "updateRevision": "b",
                },
            ),
            "progressing",
        ),
        (
            workload(
                "DaemonSet",
                status={
                    "desiredNumberScheduled": 3,
                    "currentNumberScheduled": 3,
                    "updatedNumberScheduled": 3,
                    "numberAvailable": 2,
                },
            ),
            "progressing",
        ),
    ],
)
def test_a_rollout_is_complete_when_all_pods_are_new_and_available(found: dict[str, Any], state: str) -> None:
    assert rollout(found).state == state


def test_differences_name_each_place_and_show_no_value_of_a_variable() -> None:
    before = {"replicas": 1, "containers": [{"name": "a", "env": [{"name": "KEY", "value": "old"}]}]}
    after = {
        "replicas": 2,
        "containers": [
            {"name": "new", "env": [{"name": "TOKEN", "value": "hidden"}]},
            {"name": "a", "env": [{"name": "KEY", "value": "new"}, {"name": "B", "value": "hidden"}]},
        ],
    }
    found = list(differences(before, after))
    assert [(one["path"], one["from"]) for one in found] == [
        ("spec.containers[a].env[B]", None),
        ("spec.containers[a].env[KEY].value", MASK),
        ("spec.containers[new]", None),
        ("spec.replicas", 1),
    ]
    assert not re.search("hidden|old|'new'}", str(found))
    assert list(differences(after, after)) == []


@pytest.mark.parametrize(("name", "reason"), [("other", "unknown_container"), ("", "unknown_container")])
def test_a_container_is_named_where_there_are_several(name: str, reason: str) -> None:
    found = workload()
    found["spec"]["template"]["spec"]["containers"] = [{"name": "main"}, {"name": "sidecar"}]
    assert container_of(found, "sidecar") == {"name": "sidecar"}
    with pytest.raises(RefusedError, match="main, sidecar") as caught:
        container_of(found, name)
    assert caught.value.reason == reason


# Scale ---------------------------------------------------------------------------------------------------------------

_BOUNDS = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(sorted)


@given(
    current=st.integers(0, 30),
    bounds=_BOUNDS,
    by=st.integers(-30, 30).filter(bool),
    allow_shrink=st.booleans(),
)
def test_a_relative_scale_goes_the_way_it_was_told_and_stays_within_its_bounds_or_is_refused(
    current: int, bounds: list[int], by: int, allow_shrink: bool
) -> None:
    params = scale.Params(floor=bounds[0], ceiling=bounds[1], by=by, allow_shrink=allow_shrink)
    wanted = reason_or(lambda: scale.wanted_replicas(current, params))
    if isinstance(wanted, str):
        assert wanted in {"at_ceiling", "at_floor", "would_shrink"}
        return
    assert bounds[0] <= wanted <= bounds[1]
    assert wanted > current if by > 0 else wanted < current
    assert allow_shrink or wanted >= current


@pytest.mark.parametrize(
    ("current", "allow_outage", "wanted"), [(3, False, "last_healthy_replica"), (3, True, 0), (0, False, 0)]
)
def test_no_pod_is_left_only_when_an_outage_is_allowed(current: int, allow_outage: bool, wanted: int | str) -> None:
    params = scale.Params(floor=0, ceiling=5, replicas=0, allow_shrink=True, allow_outage=allow_outage)
    assert reason_or(lambda: scale.wanted_replicas(current, params)) == wanted


@pytest.mark.parametrize(("ready", "allow_outage", "refused"), [(3, False, False), (2, False, True), (2, True, False)])
def test_a_stateful_set_is_shrunk_only_when_all_its_pods_are_ready(
    ready: int, allow_outage: bool, refused: bool
) -> None:
    params = scale.Params(ceiling=5, by=-1, allow_shrink=True, allow_outage=allow_outage)
    found = workload("StatefulSet", replicas=2, status={"readyReplicas": ready})
    refused_for = reason_or(lambda: scale.refuse_shrink(found, 3, params))
    assert refused_for == ("last_healthy_replica" if refused else None)


# Variables, quantities, revisions, volumes ----------------------------------------------------------------------------


def test_variables_are_set_in_place_removed_and_added_at_the_end() -> None:
    there = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "S", "valueFrom": {"secretKeyRef": {}}}]
    wished = {"B": "3", "A": None, "C": "4", "D": None}
    assert with_env(there, wished) == [{"name": "B", "value": "3"}, there[2], {"name": "C", "value": "4"}]
    with pytest.raises(RefusedError, match="S comes from") as caught:
        with_env(there, {"S": "x"})
    assert caught.value.reason == "value_from_elsewhere"


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("500m", "0.5"), ("0.5", "0.5"), ("1", "1"), ("2k", "2000"), ("1Ki", "1024"), ("1.5Gi", "1610612736"),
     ("1E", "1e18"), ("1e3", "1000")],
)  # fmt: skip
def test_a_quantity_is_a_number(quantity: str, number: str) -> None:
    assert amount(quantity) == Decimal(number)


@pytest.mark.parametrize("text", ["", "1GB", "one", "1 Gi"])
def test_other_texts_are_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        amount(text)


def replica_set(number: int, owner: str = "u") -> dict[str, Any]:
    labels = {"app": "app", "pod-template-hash": f"hash{number}"}
    return {
        "metadata": {
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
            "ownerReferences": [{"uid": owner}],
        },
        "spec": {"template": {"metadata": {"labels": labels}, "number": number}},
    }


def test_revisions_are_those_of_this_deployment_without_the_controllers_label() -> None:
    known = revisions(workload(), [replica_set(1), replica_set(3), replica_set(2, "other")])
    assert known == {n: {"metadata": {"labels": {"app": "app"}}, "number": n} for n in (1, 3)}


@pytest.mark.parametrize(
    ("current", "known", "wanted", "chosen"),
    [
        (5, (2, 4, 5), None, 4),
        (5, (2, 5), None, 2),
        (5, (5, 6), None, "no_previous_revision"),
        (1, (), None, "no_previous_revision"),
        (5, (2, 4, 5), 2, 2),
        (5, (2, 4, 5), 3, "unknown_revision"),
    ],
)
def test_the_revision_before_is_the_newest_older_one(
    current: int, known: tuple[int, ...], wanted: int | None, chosen: int | str
) -> None:
    found = workload()
    found["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": str(current)}
    assert reason_or(lambda: choose(found, {number: {} for number in known}, wanted)) == chosen


@pytest.mark.parametrize(
    ("now", "params", "size"),
    [
        ("1Gi", {"by_percent": 50}, "1536Mi"),
        ("1000M", {"by_percent": 10}, "1050Mi"),
        ("1Gi", {"size": "1024Mi"}, "1Gi"),
        ("1Gi", {"size": "2Gi"}, "2Gi"),
    ],
)
def test_a_volume_grows_in_whole_mebibytes(now: str, params: dict[str, Any], size: str) -> None:
    assert wanted_size(now, Expansion(ceiling="4Gi", **params)) == size


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        ({"capacity": {"storage": "2Gi"}}, "complete", "2Gi of 2Gi"),
        ({"capacity": {"storage": "1Gi"}}, "progressing", "1Gi of 2Gi"),
        ({"conditions": [{"type": "FileSystemResizePending"}]}, "progressing", "starts again"),
        ({"allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"}}, "stuck", "cannot grow"),
    ],
)
def test_a_volume_has_grown_when_its_capacity_says_so(status: dict[str, Any], state: str, said: str) -> None:
    found = growth({"spec": {"resources": {"requests": {"storage": "2Gi"}}}, "status": status})
    assert (found.state, said in found.why) == (state, True)


def pod(*, owner: bool = True, **metadata: Any) -> dict[str, Any]:
    owners = [{"uid": "o", "name": "rs", "kind": "ReplicaSet", "controller": True}] if owner else []
    ready = [{"type": "Ready", "status": "True"}]
    return {"metadata": {"name": "p", "ownerReferences": owners, **metadata}, "status": {"conditions": ready}}


def test_a_pod_without_a_controller_or_of_a_node_itself_has_none_to_replace_it() -> None:
    assert controller_of(pod())["name"] == "rs"
    for one in (pod(owner=False), pod(annotations={"kubernetes.io/config.mirror": "x"})):
        with pytest.raises(RefusedError) as caught:
            controller_of(one)
        assert caught.value.reason == "no_controller"


def test_a_pod_that_is_ending_is_not_ready() -> None:
    assert is_ready(pod())
    assert not is_ready(pod(deletionTimestamp="2026-01-01T00:00:00Z"))


# Answers and permissions ----------------------------------------------------------------------------------------------

GET = Request("get", DEPLOYMENTS, "aureus", "app")
EVICT = Request("create", EVICTIONS, "aureus", "app-1")
RBAC = 'deployments.apps "app" is forbidden: User "x" cannot get resource "deployments" in API group "apps"'


@pytest.mark.parametrize(
    ("request_", "status", "message", "meaning"),
    [
        (GET, 403, RBAC, "forbidden"),
        (GET, 403, "only dynamically provisioned pvc can be resized", "not_admitted"),
        (GET, 401, "Unauthorized", "unauthorized"),
        (GET, 404, "not found", "not_found"),
        (GET, 422, "is invalid", "not_admitted"),
        (GET, 400, "bad request", "not_admitted"),
        (EVICT, 429, "Cannot evict pod as it would violate the pod's disruption budget.", "disruption_budget"),
        (GET, 429, "too many requests", NoAnswerError),
        (GET, 409, "the object has been modified", ConflictError),
        (GET, 500, "etcd is away", NoAnswerError),
        (GET, 504, "timeout", NoAnswerError),
    ],
)
def test_an_answer_means(request_: Request, status: int, message: str, meaning: str | type[Exception]) -> None:
    error = refusal(request_, status, message)
    if isinstance(meaning, str):
        assert isinstance(error, RefusedError)
        assert error.reason == meaning
    else:
        assert isinstance(error, meaning)


def test_a_missing_permission_is_named_as_rbac_writes_it() -> None:
    assert str(refusal(GET, 403, RBAC)).endswith("get on deployments.apps in namespace aureus")
    assert EVICT.needs == "create on pods/eviction in namespace aureus"


def test_rules_are_merged_by_resource() -> None:
    asked = [PODS.rule("list"), DEPLOYMENTS.rule("update"), PODS.rule("get", "list"), SqlGrant("x"), ServiceAccess("y")]
    assert merged_rules(asked) == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["update"]},
    ]
    assert rbac_manifests([SqlGrant("x")], "a", ("a", "b"), "c") == []


@pytest.mark.parametrize(
    ("target", "resources"),
    [
        ("aureus/deployment/{{ labels.service }}", ["deployments"]),
        ("aureus/statefulset/db", ["statefulsets"]),
        ("{{ labels.target }}", ["deployments", "statefulsets"]),
    ],
)
def test_a_target_that_shows_its_kind_needs_only_that_kind(target: str, resources: list[str]) -> None:
    needed = needed_for(load_actions()["kubernetes.scale"].permissions, target)
    rules = [one for one in needed if isinstance(one, KubernetesRule)]
    assert sorted(one.resource for one in rules if "update" in one.verbs) == resources
    listed = {one.resource for one in rules if "list" in one.verbs}
    assert listed == {"horizontalpodautoscalers", "deployments", "statefulsets", "daemonsets"}, "the fleet"


def test_a_role_name_cannot_leave_its_quotes() -> None:
    grants = sql_grants([SqlGrant("pg_signal_backend")], 'a"; DROP TABLE x; --')
    assert grants == ['GRANT pg_signal_backend TO "a""; DROP TABLE x; --";']


def test_no_action_asks_for_everything() -> None:
    for action in load_actions().values():
        for one in action.permissions:
            assert not isinstance(one, KubernetesRule) or "*" not in (one.group, one.resource, *one.verbs)
            assert not isinstance(one, KubernetesRule) or one.kind in {"", *KINDS}
