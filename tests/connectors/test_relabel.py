"""Relabelling steps do what Prometheus's documentation says of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors._relabel import Step, relabel

GIVEN = {"__name__": "m", "job": "api", "pod": "Web-7", "__meta_zone": "eu-1"}


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in GIVEN.items() if name not in names}


@pytest.mark.parametrize(
    ("step", "result"),
    [
        # replace
        (Step(source_labels=["job"], target_label="app"), GIVEN | {"app": "api"}),
        (Step(target_label="env", replacement="prod"), GIVEN | {"env": "prod"}),
        (Step(source_labels=["job", "pod"], target_label="id"), GIVEN | {"id": "api;Web-7"}),
        (Step(source_labels=["job", "pod"], separator="/", target_label="id"), GIVEN | {"id": "api/Web-7"}),
        (
            Step(source_labels=["pod"], regex=r"(\w+)-(\d+)", target_label="n", replacement="$2/${1}$$"),
            GIVEN | {"n": "7/Web$"},
        ),
        (
            Step(source_labels=["pod"], regex=r"(?P<kind>\w+)-\d+", target_label="k", replacement="${kind}"),
            GIVEN | {"k": "Web"},
        ),
        (Step(source_labels=["pod"], regex="We", target_label="n"), GIVEN),  # the whole value must match
        (Step(source_labels=["none"], target_label="job"), without("job")),  # an empty result takes the label away
        (Step(source_labels=["job"], regex="(.*)", target_label="${1}_is", replacement="x"), GIVEN | {"api_is": "x"}),
        (Step(source_labels=["pod"], regex="(.*)", target_label="${1}", replacement="x"), GIVEN),  # no label name
        # keep and drop
        (Step("keep", ["job"], regex="api|web"), GIVEN),
        (Step("keep", ["job"], regex="ap"), None),
        (Step("keep", ["none"], regex=""), GIVEN),
        (Step("drop", ["job"], regex="a.i"), None),
        (Step("drop", ["job"], regex="web"), GIVEN),
        (Step("keepequal", ["job"], target_label="pod"), None),
        (Step("keepequal", ["none"], target_label="neither"), GIVEN),
        (Step("dropequal", ["job"], target_label="job"), None),
        (Step("dropequal", ["job"], target_label="pod"), GIVEN),
        # names
        (Step("labelmap", regex="__meta_(.+)"), GIVEN | {"zone": "eu-1"}),
        (Step("labelmap", regex="__meta_(.+)", replacement="k8s_$1"), GIVEN | {"k8s_zone": "eu-1"}),
        (Step("labeldrop", regex="job|pod"), without("job", "pod")),
        (Step("labelkeep", regex="job|__name__"), {"__name__": "m", "job": "api"}),
        # values
        (Step("lowercase", ["pod"], target_label="pod"), GIVEN | {"pod": "web-7"}),
        (Step("uppercase", ["job", "pod"], target_label="x"), GIVEN | {"x": "API;WEB-7"}),
    ],
    ids=lambda value: f"{value.action} {value.regex}" if isinstance(value, Step) else None,
)
def test_a_step_does_what_its_action_says(step: Step, result: dict[str, str] | None):
    assert relabel(GIVEN, [step]) == result


@pytest.mark.parametrize(
    ("value", "end_of_md5"), [("", 0xE9800998ECF8427E), ("foobar", 0x5F300C664312C63F)], ids=["nothing", "a word"]
)
def test_hashmod_takes_the_last_eight_bytes_of_the_md5(value: str, end_of_md5: int):
    shard = relabel({"a": value}, [Step("hashmod", ["a"], modulus=1_000, target_label="s")])
    assert shard is not None
    assert shard["s"] == str(end_of_md5 % 1_000)


def test_each_step_sees_what_the_one_before_it_left():
    steps = [
        Step(source_labels=["__meta_zone"], target_label="zone"),
        Step("keep", ["zone"], regex="eu-.*"),
        Step("labeldrop", regex="__meta_.*"),
        Step("drop", ["__meta_zone"], regex=".+"),
    ]
    assert relabel(GIVEN, steps) == without("__meta_zone") | {"zone": "eu-1"}


def test_the_given_labels_stay_as_they_are():
    labels = dict(GIVEN)
    relabel(labels, [Step("labeldrop", regex=".*")])
    assert labels == GIVEN


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"regex": "("}, "bad regular expression"),
        ({"action": "replace"}, "needs target_label"),
        ({"action": "hashmod", "target_label": "x"}, "needs modulus"),
        ({"target_label": "1x"}, "not a label name"),
        ({"action": "lowercase", "target_label": "$1"}, "not a label name"),
        ({"action": "keepequal"}, "needs target_label"),
    ],
)
def test_a_step_that_could_never_work_is_refused(fields: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        Step(**fields)


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=5)), st.text(max_size=5))
def test_no_value_is_left_empty_and_keep_and_drop_are_opposites(labels: dict[str, str], value: str):
    kept = relabel(labels, [Step("keep", ["a"], regex="x.*")])
    dropped = relabel(labels, [Step("drop", ["a"], regex="x.*")])
    assert (kept is None) != (dropped is None)
    result = relabel(labels, [Step(target_label="a", replacement=value.replace("$", "$$"))])
    assert result is not None
    assert all(result.values())
