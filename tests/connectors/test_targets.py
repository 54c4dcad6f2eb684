"""From a job and an address to a target, as Prometheus does it."""

from __future__ import annotations

import pytest

from connectors._relabel import Step
from connectors._targets import Job, Target, TargetGroup, from_url, read_groups, resolve, targets

JOB = Job("node", labels={"env": "prod"})


PARAMS = {"a": ["1", "2"]}
PROBE = [
    Step(source_labels=["__address__"], target_label="__param_target"),
    Step(source_labels=["__param_target"], target_label="instance"),
    Step(target_label="__address__", replacement="blackbox:9115"),
]


@pytest.mark.parametrize(
    ("job", "address", "labels", "final", "url"),
    [
        (JOB, "h:1", {}, {"job": "node", "env": "prod", "instance": "h:1"}, "http://h:1/metrics"),
        (JOB, "h:1", {"env": "dev", "job": "x"}, {"job": "x", "env": "dev", "instance": "h:1"}, "http://h:1/metrics"),
        (Job("j"), "h", {"instance": "i", "__meta_zone": "z"}, {"job": "j", "instance": "i"}, "http://h/metrics"),
        (Job("j", "https", "/m", PARAMS), "h", {}, {"job": "j", "instance": "h"}, "https://h/m?a=1&a=2"),
        (
            Job("j", params=PARAMS),
            "h",
            {"__param_a": "x y"},
            {"job": "j", "instance": "h"},
            "http://h/metrics?a=x+y&a=2",
        ),
        (
            Job("j"),
            "h",
            {"__scheme__": "https", "__metrics_path__": "/p"},
            {"job": "j", "instance": "h"},
            "https://h/p",
        ),
        (
            Job("probe", metrics_path="/probe", steps=PROBE),
            "shop.example:443",
            {},
            {"job": "probe", "instance": "shop.example:443"},
            "http://blackbox:9115/probe?target=shop.example%3A443",
        ),
    ],
)
def test_labels_make_the_target(job: Job, address: str, labels: dict[str, str], final: dict[str, str], url: str):
    assert resolve(job, address, labels) == Target(final, url)


def test_relabelling_may_drop_a_target():
    job = Job("j", steps=[Step("keep", ["__meta_zone"], regex="eu")])
    assert resolve(job, "h", {"__meta_zone": "us"}) is None
    assert resolve(job, "h", {"__meta_zone": "eu"}) is not None


@pytest.mark.parametrize(
    ("url", "labels", "read"),
    [
        ("http://bridge:8080/metrics", "bridge:8080", "http://bridge:8080/metrics"),
        ("http://bridge", "bridge:80", "http://bridge:80/"),
        ("https://[::1]/x?match[]=a&match[]=b", "[::1]:443", "https://[::1]:443/x?match%5B%5D=a&match%5B%5D=b"),
    ],
)
def test_one_url_is_a_target_too(url: str, labels: str, read: str):
    found = resolve(*from_url(JOB, url), {})
    assert found == Target({"job": "node", "env": "prod", "instance": labels}, read)


@pytest.mark.parametrize("address", ["", "a/b", "user@host"])
def test_an_address_that_is_none_is_refused_and_the_others_are_taken(address: str):
    found, problems = targets(JOB, [TargetGroup([address, "h:1", "h:1"])])
    assert [one.labels["instance"] for one in found] == ["h:1"]
    assert len(problems) == 1


def test_files_are_json_or_yaml_and_their_groups_know_them():
    for text in ('[{"targets": ["a:1"], "labels": {"x": "y"}}]', "- targets: [a:1]\n  labels: {x: y}\n"):
        assert read_groups(text, "/f") == [TargetGroup(["a:1"], {"x": "y", "__meta_filepath": "/f"})]
    assert read_groups("", "/f") == []


@pytest.mark.parametrize("text", ["a: [", "a", "[1]", '[{"targets": "a"}]', '[{"target": ["a"]}]', "[{targets: [1]}]"])
def test_a_file_that_is_none_is_refused_with_its_name(text: str):
    with pytest.raises(ValueError, match=r"^/f is (neither|not)"):
        read_groups(text, "/f")
