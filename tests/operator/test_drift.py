from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.drift import additions, first_drift


def test_a_canonical_quantity_is_no_drift() -> None:
    assert first_drift({"cpu": "0.5"}, {"cpu": "500m"}) is None
    assert first_drift({"cpu": "0.5"}, {"cpu": "501m"}) == "cpu"


def test_an_empty_value_that_the_server_dropped_is_no_drift() -> None:
    assert first_drift({"emptyDir": {}, "labels": None, "value": ""}, {}) is None
    assert first_drift({"automountServiceAccountToken": False}, {}) is not None


@pytest.mark.parametrize(
    ("desired", "more"),
    [
        ({"selector": {"a": "b"}}, {"selector": {"a": "b", "team": "blue"}}),
        (
            {"podSelector": {"matchLabels": {"a": "b"}}},
            {"podSelector": {"matchLabels": {"a": "b", "c": "d"}}},
        ),
        (
            {"ingress": [{"ports": [{"port": 1}]}]},
            {"ingress": [{"ports": [{"port": 1}], "from": [{"podSelector": {}}]}]},
        ),
        ({"nodeSelector": {"gpu": "h100"}}, {"nodeSelector": {"gpu": "h100", "zone": "a"}}),
        ({"namespaceSelector": {}}, {"namespaceSelector": {"matchLabels": {"a": "b"}}}),
    ],
)
def test_more_in_a_selector_or_a_rule_is_a_change_of_it(
    desired: dict[str, Any], more: dict[str, Any]
) -> None:
    assert first_drift(desired, copy.deepcopy(desired)) is None
    assert first_drift(desired, more) is not None


def test_an_item_that_a_merged_list_has_more_is_not_applied_again_in_vain() -> None:
    """Applying again leaves it; `additions` tells whether it is to be removed."""
    desired = {"containers": [{"name": "octavo", "image": "a"}]}
    sidecar = {"name": "sidecar"}
    same, other = ({"name": "octavo", "image": image, "tty": False} for image in "ab")
    assert first_drift(desired, {"containers": [sidecar, same]}) is None
    assert first_drift(desired, {"containers": [sidecar, other]}) == "containers[0].image"
    assert first_drift(desired, {"containers": [sidecar]}) == "containers[0]"


def test_an_owner_that_somebody_added_is_no_drift() -> None:
    ours = {"uid": "a", "controller": True}
    assert (
        first_drift({"ownerReferences": [ours]}, {"ownerReferences": [{"uid": "b"}, ours]}) is None
    )
    assert first_drift({"ownerReferences": [ours]}, {"ownerReferences": [{"uid": "b"}]}) is not None


DESIRED: dict[str, Any] = {
    "metadata": {},
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {"containers": [{"name": "octavo", "env": [{"name": "HOME", "value": "/"}]}]}
        },
    },
}


def owned(manager: str, **fields: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": fields}}


def added_by(*managers: dict[str, Any]) -> dict[str, Any]:
    live = copy.deepcopy(DESIRED)
    live["metadata"]["managedFields"] = list(managers)
    live["spec"] |= {"paused": True, "progressDeadlineSeconds": 600}
    pod = live["spec"]["template"]["spec"]
    pod["containers"][0]["env"].append({"name": "DEBUG", "value": "1"})
    pod["containers"].insert(0, {"name": "sidecar"})
    pod["dnsPolicy"] = "ClusterFirst"
    return live


CONTAINERS = {
    'k:{"name":"sidecar"}': {".": {}, "f:name": {}},
    'k:{"name":"octavo"}': {"f:env": {'k:{"name":"DEBUG"}': {".": {}, "f:value": {}}}},
}


def test_what_others_added_is_removed_last_item_first_and_defaults_are_not() -> None:
    live = added_by(
        owned("kubectl-rollout", **{"f:paused": {}}),
        owned("kubectl-edit", **{"f:template": {"f:spec": {"f:containers": CONTAINERS}}}),
    )
    containers = ("spec", "template", "spec", "containers")
    assert additions(DESIRED, live) == [
        (*containers, 1, "env", 1),
        (*containers, 0),
        ("spec", "paused"),
    ]


def test_what_we_own_or_the_status_holds_is_no_addition() -> None:
    ours = owned("octavo-operator", **{"f:paused": {}}) | {"operation": "Apply"}
    status = owned("kube-controller-manager", **{"f:paused": {}}) | {"subresource": "status"}
    assert additions(DESIRED, added_by(ours, status)) == []


def test_what_a_patch_of_ours_once_put_back_goes_when_it_is_no_longer_wanted() -> None:
    """An apply that leaves it out does not take it away: the patch owns it by itself."""
    ours = owned("octavo-operator", **{"f:paused": {}})
    assert additions(DESIRED, added_by(ours)) == [("spec", "paused")]


def test_labels_and_annotations_of_the_template_are_everybody_s() -> None:
    annotation: dict[str, Any] = {
        "f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}
    }
    live = added_by(owned("kubectl-rollout", **{"f:template": {"f:metadata": annotation}}))
    live["spec"]["template"]["metadata"] = {
        "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}
    }
    assert additions(DESIRED, live) == []


def test_a_field_that_we_state_is_no_addition_whoever_changed_it() -> None:
    live = added_by(owned("kubectl-scale", **{"f:replicas": {}}))
    assert additions(DESIRED, live) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values)
def test_a_value_never_drifts_from_itself(value: Any) -> None:
    assert first_drift(value, copy.deepcopy(value)) is None


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4), st.text(max_size=3))
def test_what_the_server_adds_is_no_drift(value: dict[str, Any], key: str) -> None:
    added = copy.deepcopy(value)
    added.setdefault(key, "default")
    assert first_drift(value, added) is None


@given(st.dictionaries(st.sampled_from("abc"), st.integers(), min_size=1), st.data())
def test_any_change_of_a_value_is_a_drift(value: dict[str, int], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    assert first_drift(value, value | {key: value[key] + 1}) == key
