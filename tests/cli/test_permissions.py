"""`sentinel permissions` prints what the runbooks' actions need: as a table, as RBAC manifests, as SQL grants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from engine.actions import AwsAccess

RUNBOOKS = """\
runbooks:
  - name: HighCPUUsage
    match: ['alertname="HighCPUUsage"']
    priority: P2
    escalation: [{to: on-call}]
    summary: busy
    steps:
      - name: scale
        act:
          action: kubernetes.scale
          target: aureus/deployment/{{ labels.service }}
          params: {by: 1, ceiling: 5}
      - name: better
        verify: {}
      - name: restart
        ask:
          question: restart?
          action: kubernetes.rollout_restart
          target: aureus/deployment/{{ labels.service }}
      - name: best
        verify: {}
  - name: DatabaseFailure
    match: ['alertname="DatabaseFailure"']
    priority: P1
    escalation: [{to: on-call}]
    summary: full
    steps:
      - name: idle
        act:
          action: postgres.terminate_idle
          target: main
          params: {idle_minutes: 10, roles: [app]}
      - name: freed
        verify: {}
"""
FLEET = ["deployments.apps", "statefulsets.apps", "daemonsets.apps"]
RULES = [
    {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["list"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "update"]},
    {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["list"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
]


@pytest.fixture(autouse=True)
def runbooks(tmp_path: Path) -> None:
    (tmp_path / "rules" / "runbooks").mkdir(parents=True)
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(RUNBOOKS)


def test_each_step_is_listed_with_what_it_needs(sentinel):
    ran = sentinel("permissions")
    assert (ran.code, ran.err) == (0, "")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["RUNBOOK", "STEP", "ACTION", "NEEDS"],
        ["HighCPUUsage", "scale", "kubernetes.scale", *["get,", "update", "on", "deployments.apps"]],
        ["HighCPUUsage", "scale", "kubernetes.scale", *["list", "on", "horizontalpodautoscalers.autoscaling"]],
        *(["HighCPUUsage", "scale", "kubernetes.scale", *["list", "on", one]] for one in FLEET),
        ["HighCPUUsage", "restart", "kubernetes.rollout_restart", *["get,", "update", "on", "deployments.apps"]],
        *(["HighCPUUsage", "restart", "kubernetes.rollout_restart", *["list", "on", one]] for one in FLEET),
        ["DatabaseFailure", "idle", "postgres.terminate_idle", *["member", "of", "pg_signal_backend"]],
        ["DatabaseFailure", "idle", "postgres.terminate_idle", *["member", "of", "pg_read_all_stats"]],
    ]


def test_rbac_is_a_role_and_its_binding_in_each_namespace_that_a_target_may_name(sentinel, tmp_path):
    ran = sentinel("permissions", "--format", "yaml", "-n", "aureus", "-n", "shop", "--account", "ops/robot")
    made = list(yaml.safe_load_all(ran.out))
    assert [(one["kind"], one["metadata"]["namespace"]) for one in made] == [
        ("Role", "aureus"),
        ("RoleBinding", "aureus"),
    ]
    assert made[0]["rules"] == RULES
    assert made[1]["subjects"] == [{"kind": "ServiceAccount", "namespace": "ops", "name": "robot"}]
    fixed = "aureus/deployment/{{ labels.service }}"
    wherever = RUNBOOKS.replace(fixed, f'"{fixed.replace("aureus", "{{ labels.namespace }}")}"')
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(wherever)
    ran = sentinel("permissions", "--format", "yaml", "-n", "aureus", "-n", "shop")
    assert [one["metadata"]["namespace"] for one in yaml.safe_load_all(ran.out)] == ["aureus", "aureus", "shop", "shop"]


def test_namespaces_come_from_the_settings(sentinel):
    ran = sentinel("permissions", "--format", "yaml", "--set", "executor.namespaces=[aureus]")
    assert [one["metadata"]["namespace"] for one in yaml.safe_load_all(ran.out)] == ["aureus", "aureus"]


def test_without_a_namespace_nothing_can_be_said(sentinel):
    ran = sentinel("permissions", "--format", "yaml")
    assert (ran.code, ran.out) == (2, "")
    assert "executor.namespaces" in ran.err


def test_an_account_without_its_namespace_is_refused(sentinel):
    ran = sentinel("permissions", "--format", "yaml", "-n", "aureus", "--account", "robot")
    assert (ran.code, "NAMESPACE/NAME" in ran.err) == (2, True)


def test_grants_go_to_the_role_that_connects(sentinel):
    url = 'executor.databases={"main": "postgresql://exec%2Dutor:secret@db/app"}'
    ran = sentinel("permissions", "--format", "sql", "--set", url)
    assert ran.out.splitlines() == [
        "-- database main",
        'GRANT CONNECT ON DATABASE "app" TO "exec-utor";',
        'GRANT pg_read_all_stats TO "exec-utor";',
        'GRANT pg_signal_backend TO "exec-utor";',
    ]
    assert 'TO "robot";' in sentinel("permissions", "--format", "sql", "--role", "robot").out


def test_runbooks_that_change_no_cluster_need_no_rbac(sentinel, tmp_path):
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(
        RUNBOOKS[: RUNBOOKS.index("  - name: High")] + RUNBOOKS[RUNBOOKS.index("  - name: Database") :]
    )
    assert sentinel("permissions", "--format", "yaml").out == "# no runbook reads or changes these namespaces\n"


def test_broken_runbooks_are_shown(sentinel, tmp_path):
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(RUNBOOKS.replace("kubernetes.scale", "kubernetes.grow"))
    ran = sentinel("permissions")
    assert ran.code == 1
    assert "there is no action 'kubernetes.grow'" in ran.err


READS = """\
      - name: pods
        investigate: {kubernetes: {read: pods, target: 'aureus/deployment/{{ labels.service }}'}}
      - name: log
        investigate: {kubernetes: {read: logs, target: '{{ labels.namespace }}/pod/{{ labels.pod }}'}}
"""


def test_what_the_responder_reads_is_a_role_of_its_own(sentinel, tmp_path):
    text = RUNBOOKS.replace("      - name: scale\n", READS + "      - name: scale\n", 1)
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(text)
    ran = sentinel("permissions", "--format", "yaml", "-n", "aureus", "-n", "shop", "--account", "ops/hands,eyes")
    made = {(one["metadata"]["name"], one["metadata"]["namespace"]): one for one in yaml.safe_load_all(ran.out)}
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    logs = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
    binding = made[("aureus-sentinel-responder", "shop")]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "namespace": "ops", "name": "eyes"}]
    roles = [one for one in yaml.safe_load_all(ran.out) if one["kind"] == "Role"]
    assert [(one["metadata"]["name"], one["metadata"]["namespace"], one["rules"]) for one in roles] == [
        ("aureus-sentinel-executor", "aureus", RULES),
        (
            "aureus-sentinel-responder",
            "aureus",
            [
                pods | {"verbs": ["get", "list"]},
                logs,
                {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
            ],
        ),
        ("aureus-sentinel-responder", "shop", [pods, logs]),
    ]
    assert {verb for one in roles[1:] for rule in one["rules"] for verb in rule["verbs"]} <= {"get", "list"}
    shown = sentinel("permissions").out.splitlines()
    assert ["HighCPUUsage", "pods", "read", "pods", "list", "on", "pods"] in [line.split() for line in shown]


QUERIES = """\
      - name: orders
        investigate:
          postgres: {database: main, query: select count(*) from Orders o join shop."Order Items" i on i.id = o.id}
      - name: sessions
        investigate:
          postgres: {database: main, query: select pid from pg_stat_activity}
      - name: elsewhere
        investigate:
          postgres: {database: audit, query: select 1 from log}
"""


def test_what_the_responder_queries_is_granted_to_its_user_table_by_table(sentinel, tmp_path):
    text = RUNBOOKS.replace("      - name: idle\n", QUERIES + "      - name: idle\n", 1)
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(text)
    url = 'responder.databases={"main": "postgresql://eyes:secret@db/app"}'
    ran = sentinel("permissions", "--format", "sql", "--role", "hands,reader", "--set", url)
    assert ran.out.splitlines() == [
        "-- database audit",
        'GRANT SELECT ON TABLE "public"."log" TO "reader";',
        'GRANT USAGE ON SCHEMA "public" TO "reader";',
        "-- database main",
        'GRANT pg_read_all_stats TO "hands";',
        'GRANT pg_signal_backend TO "hands";',
        'GRANT CONNECT ON DATABASE "app" TO "eyes";',
        'GRANT SELECT ON TABLE "public"."orders" TO "eyes";',
        'GRANT SELECT ON TABLE "shop"."Order Items" TO "eyes";',
        'GRANT USAGE ON SCHEMA "public" TO "eyes";',
        'GRANT USAGE ON SCHEMA "shop" TO "eyes";',
        'GRANT pg_read_all_stats TO "eyes";',
    ]


def test_a_database_that_is_chosen_when_an_alert_comes_may_be_any_of_them(sentinel, tmp_path):
    chosen = """\
      - name: orders
        investigate:
          postgres: {database: {cel: labels.database}, query: select count(*) from orders}
"""
    text = RUNBOOKS.replace("      - name: idle\n", chosen + "      - name: idle\n", 1)
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(text)
    url = 'responder.databases={"one": "postgresql://eyes@db/one", "two": "postgresql://eyes@db/two"}'
    lines = sentinel("permissions", "--format", "sql", "--set", url).out.splitlines()
    assert lines.count('GRANT SELECT ON TABLE "public"."orders" TO "eyes";') == 2
    assert [line for line in lines if "CONNECT" in line] == [
        'GRANT CONNECT ON DATABASE "one" TO "eyes";',
        'GRANT CONNECT ON DATABASE "two" TO "eyes";',
    ]


KMS_RUNBOOK = """\
runbooks:
  - name: SignatureFailures
    match: ['alertname="SignatureFailures"']
    priority: P0
    escalation: [{to: on-call}]
    summary: tampered
    steps:
      - name: rotate
        act: {action: kms.rotate_signing_key, target: bridge}
      - name: rotated
        verify: {}
"""
KMS_KEYS = 'executor.kms={"bridge": {"alias": "alias/bridge", "region": "eu-central-1"}}'


def test_aws_gets_a_policy_for_the_aliases_of_the_settings_and_nothing_with_a_wildcard_that_changes(sentinel, tmp_path):
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(KMS_RUNBOOK)
    policy = json.loads(sentinel("permissions", "--format", "aws", "--set", KMS_KEYS).out)
    assert policy["Version"] == "2012-10-17"
    keys, alias = "arn:aws:kms:eu-central-1:*:key/*", "arn:aws:kms:eu-central-1:*:alias/bridge"
    tags = [f"aureus-sentinel/{name}" for name in ("alias", "replaced-at", "replaced-by")]
    aliased = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/bridge"}}
    own = {"StringEquals": {"aws:ResourceTag/aureus-sentinel/alias": "alias/bridge"}}
    new = {"StringEquals": {"aws:RequestTag/aureus-sentinel/alias": "alias/bridge"}}
    read = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListResourceTags", "kms:UpdateAlias"]
    assert [(one["Action"], one["Resource"], one.get("Condition")) for one in policy["Statement"]] == [
        (read, keys, aliased),
        (["kms:TagResource"], keys, {**aliased, "ForAllValues:StringEquals": {"aws:TagKeys": tags}}),
        (["kms:UpdateAlias"], alias, None),
        (["kms:DescribeKey", "kms:ListResourceTags", "kms:UpdateAlias"], keys, own),
        (["kms:CreateKey", "kms:TagResource"], "*", new),
        (["kms:ListKeys"], "*", None),
    ]


def test_an_alias_that_is_not_set_cannot_be_granted(sentinel, tmp_path):
    (tmp_path / "rules" / "runbooks" / "all.yml").write_text(KMS_RUNBOOK)
    ran = sentinel("permissions", "--format", "aws")
    assert (ran.code, "executor.kms" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_the_partition_is_the_regions(region, partition):
    made = AwsAccess(("kms:UpdateAlias",), "alias").statement("alias/a", region)
    assert made["Resource"] == f"arn:{partition}:kms:{region}:*:alias/a"
