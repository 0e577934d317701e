from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.manifest import CHILD_KINDS, Kind, Manifest, kind_of
from octavo_operator.plan import ActionType, first_drift, plan
from octavo_operator.render import render
from tests.support.operator.builders import UID, context

CACHED = {"uri": "hf://o/n", "cache": {"size": "5Gi"}}


def live(manifests: list[Manifest]) -> dict[Kind, Manifest | None]:
    """As the API server holds them: with defaults and bookkeeping added."""
    observed: dict[Kind, Manifest | None] = dict.fromkeys(CHILD_KINDS)
    for manifest in copy.deepcopy(manifests):
        manifest["metadata"] |= {"uid": "child", "resourceVersion": "1"}
        manifest["status"] = {"anything": 1}
        observed[kind_of(manifest)] = manifest
    return observed


def types(observed: dict[Kind, Manifest | None], desired: list[Manifest]) -> dict[str, ActionType]:
    return {action.kind.kind: action.type for action in plan(observed, desired, UID)}


def test_what_is_missing_is_applied() -> None:
    desired = render(context())
    actions = plan(live([]), desired, UID)
    assert {action.type for action in actions} == {ActionType.APPLY}
    assert {action.why for action in actions} == {"missing"}


def test_what_stands_is_kept() -> None:
    desired = render(context())
    assert set(types(live(desired), desired).values()) == {ActionType.KEEP}


def test_a_change_of_the_spec_touches_only_what_it_changes() -> None:
    actions = types(live(render(context())), render(context(engine={"seed": 1})))
    assert [kind for kind, type_ in actions.items() if type_ is ActionType.APPLY] == ["Deployment"]


def test_what_somebody_else_changed_is_applied_again_and_named() -> None:
    desired = render(context())
    observed = live(desired)
    service = next(each for each in observed.values() if each and each["kind"] == "Service")
    service["spec"]["selector"]["octavo.dev/llmdeployment"] = "other"
    (action,) = (a for a in plan(observed, desired, UID) if a.type is ActionType.APPLY)
    assert action.kind.kind == "Service"
    assert "spec.selector.octavo.dev/llmdeployment" in action.why


def test_what_is_no_longer_wanted_is_deleted() -> None:
    observed = live(render(context(model=CACHED)))
    actions = types(observed, render(context(model={"uri": "hf://o/n"})))
    assert actions["PersistentVolumeClaim"] is ActionType.DELETE


def test_what_is_on_its_way_out_is_not_deleted_again() -> None:
    observed = live(render(context(model=CACHED)))
    for child in observed.values():
        if child and child["kind"] == "PersistentVolumeClaim":
            child["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert "PersistentVolumeClaim" not in types(observed, render(context()))


def test_the_object_of_somebody_else_is_neither_taken_over_nor_deleted() -> None:
    desired = render(context(model=CACHED))
    observed = live(desired)
    for child in observed.values():
        if child:
            child["metadata"]["ownerReferences"] = []
    assert set(types(observed, desired).values()) == {ActionType.CONFLICT}
    assert "PersistentVolumeClaim" not in types(observed, render(context()))


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
