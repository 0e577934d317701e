from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.children import CHILDREN
from octavo_operator.manifest import SERVICE, Child, ChildKey, Manifest
from octavo_operator.plan import ActionType, first_drift, plan
from tests.support.operator.builders import UID, children

CACHED = {"uri": "hf://o/n", "cache": {"size": "5Gi"}}


Live = dict[ChildKey, Manifest | None]


def live(desired: list[Child]) -> Live:
    """As the API server holds them: with defaults and bookkeeping added."""
    observed: Live = dict.fromkeys(CHILDREN)
    for child in copy.deepcopy(desired):
        child.manifest["metadata"] |= {"uid": "child", "resourceVersion": "1"}
        child.manifest["status"] = {"anything": 1}
        observed[child.key] = child.manifest
    return observed


def types(observed: Live, desired: list[Child]) -> dict[str, ActionType]:
    return {action.key.kind.kind: action.type for action in plan(observed, desired, UID)}


def test_what_is_missing_is_applied() -> None:
    desired = children()
    actions = plan(live([]), desired, UID)
    assert {action.type for action in actions} == {ActionType.APPLY}
    assert {action.why for action in actions} == {"missing"}


def test_what_stands_is_kept() -> None:
    desired = children()
    assert set(types(live(desired), desired).values()) == {ActionType.KEEP}


def test_a_change_of_the_spec_touches_only_what_it_changes() -> None:
    actions = types(live(children()), children(engine={"seed": 1}))
    assert [kind for kind, type_ in actions.items() if type_ is ActionType.APPLY] == ["Deployment"]


def test_what_somebody_else_changed_is_applied_again_and_named() -> None:
    desired = children()
    observed = live(desired)
    service = next(each for each in observed.values() if each and each["kind"] == "Service")
    service["spec"]["selector"]["octavo.dev/llmdeployment"] = "other"
    (action,) = (a for a in plan(observed, desired, UID) if a.type is ActionType.APPLY)
    assert action.key == ChildKey(SERVICE)
    assert "spec.selector.octavo.dev/llmdeployment" in action.why


def test_what_is_no_longer_wanted_is_deleted() -> None:
    observed = live(children(model=CACHED))
    actions = types(observed, children(model={"uri": "hf://o/n"}))
    assert actions["PersistentVolumeClaim"] is ActionType.DELETE


def test_what_is_on_its_way_out_is_not_deleted_again() -> None:
    observed = live(children(model=CACHED))
    for child in observed.values():
        if child and child["kind"] == "PersistentVolumeClaim":
            child["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert "PersistentVolumeClaim" not in types(observed, children())


def test_the_object_of_somebody_else_is_neither_taken_over_nor_deleted() -> None:
    desired = children(model=CACHED)
    observed = live(desired)
    for child in observed.values():
        if child:
            child["metadata"]["ownerReferences"] = []
    assert set(types(observed, desired).values()) == {ActionType.CONFLICT}
    assert "PersistentVolumeClaim" not in types(observed, children())


def test_two_children_of_one_kind_are_told_apart_by_their_role() -> None:
    (service,) = (each for each in children() if each.key.kind is SERVICE)
    other = Child(ChildKey(SERVICE, "peers"), copy.deepcopy(service.manifest))
    other.manifest["metadata"]["name"] = other.key.name_for("llama")
    standing = live([service, other])
    assert [action.type for action in plan(standing, [service, other], UID)] == [
        ActionType.KEEP,
        ActionType.KEEP,
    ]
    actions = {action.key: action.type for action in plan(standing, [service], UID)}
    assert actions == {service.key: ActionType.KEEP, other.key: ActionType.DELETE}
    assert (service.key.name_for("llama"), other.key.name_for("llama")) == ("llama", "llama-peers")


def test_a_canonical_quantity_is_no_drift() -> None:
    assert first_drift({"cpu": "0.5"}, {"cpu": "500m"}) is None
    assert first_drift({"cpu": "0.5"}, {"cpu": "501m"}) == "cpu"


def test_an_empty_value_that_the_server_dropped_is_no_drift() -> None:
    assert first_drift({"emptyDir": {}, "labels": None}, {}) is None


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
