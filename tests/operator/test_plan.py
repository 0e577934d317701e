from __future__ import annotations

import copy
from typing import Any

import pytest

from octavo_operator.children import CHILDREN
from octavo_operator.manifest import FIELD_MANAGER, SERVICE, Child, ChildKey, Manifest
from octavo_operator.plan import ActionType, plan
from octavo_operator.render import Owner
from octavo_operator.render.cache import KEY as MODEL_CACHE
from tests.support.operator.builders import KEY, UID, children
from tests.support.operator.fake_kube import OURS, patched

OWNER = Owner(KEY, UID)
CACHED = {"uri": "hf://o/n", "cache": {"size": "5Gi"}}


Live = dict[ChildKey, Manifest | None]


def live(desired: list[Child]) -> Live:
    """As the API server holds them: with defaults and bookkeeping added."""
    observed: Live = dict.fromkeys(CHILDREN)
    for child in copy.deepcopy(desired):
        written = {"uid": "child", "resourceVersion": "1", "managedFields": [OURS]}
        child.manifest["metadata"] |= written
        child.manifest["status"] = {"anything": 1}
        observed[child.key] = child.manifest
    return observed


def types(observed: Live, desired: list[Child]) -> dict[str, ActionType]:
    return {action.key.kind.kind: action.type for action in plan(observed, desired, OWNER)}


def test_what_is_missing_is_applied() -> None:
    desired = children()
    actions = plan(live([]), desired, OWNER)
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
    (action,) = (a for a in plan(observed, desired, OWNER) if a.type is ActionType.APPLY)
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
            child["metadata"]["ownerReferences"] = [{"uid": "other", "controller": True}]
    assert set(types(observed, desired).values()) == {ActionType.CONFLICT}
    assert "PersistentVolumeClaim" not in types(observed, children())


def test_two_children_of_one_kind_are_told_apart_by_their_role() -> None:
    (service,) = (each for each in children() if each.key.kind is SERVICE)
    other = Child(ChildKey(SERVICE, "peers"), copy.deepcopy(service.manifest))
    other.manifest["metadata"]["name"] = other.key.name_for("llama")
    standing = live([service, other])
    assert [action.type for action in plan(standing, [service, other], OWNER)] == [
        ActionType.KEEP,
        ActionType.KEEP,
    ]
    actions = {action.key: action.type for action in plan(standing, [service], OWNER)}
    assert actions == {service.key: ActionType.KEEP, other.key: ActionType.DELETE}
    assert (service.key.name_for("llama"), other.key.name_for("llama")) == ("llama", "llama-peers")


def test_what_was_ours_and_is_nobody_s_is_adopted() -> None:
    """As after `kubectl delete --cascade=orphan`, or when an owner reference was lost."""
    desired = children()
    observed = live(desired)
    for child in observed.values():
        if child:
            child["metadata"]["ownerReferences"] = []
    assert set(types(observed, desired).values()) == {ActionType.APPLY}
    for child in observed.values():
        if child:
            child["metadata"]["labels"]["octavo.dev/llmdeployment"] = "another"
    assert set(types(observed, desired).values()) == {ActionType.CONFLICT}


def test_what_a_former_object_of_the_name_left_is_waited_for() -> None:
    """`kubectl replace --force`: the new one is there before the children of the old one have gone."""
    desired = children(model=CACHED)
    observed = live(children(model=CACHED))
    for child in observed.values():
        if child:
            child["metadata"]["ownerReferences"][0]["uid"] = "former"
    assert set(types(observed, desired).values()) == {ActionType.WAIT}
    for child in observed.values():
        if child:
            child["metadata"]["ownerReferences"][0]["kind"] = "ConfigMap"
    assert set(types(observed, desired).values()) == {ActionType.CONFLICT}


def test_what_was_made_in_our_place_and_cannot_become_ours_goes_first() -> None:
    """As by `kubectl replace --force`, which keeps owner, labels and annotations."""
    desired = children()
    observed = live(desired)

    def remade() -> set[str]:
        actions = plan(observed, desired, OWNER)
        return {each.key.kind.kind for each in actions if each.is_remade}

    assert remade() == set()
    of_kind = {key.kind.kind: child for key, child in observed.items() if child}
    of_kind["Service"]["spec"]["clusterIP"] = "None"
    assert remade() == {"Service"}
    of_kind["Deployment"]["spec"]["selector"]["matchLabels"]["team"] = "blue"
    assert remade() == {"Service", "Deployment"}
    of_kind["Service"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    of_kind["Deployment"]["metadata"]["ownerReferences"] = []
    assert remade() == set(), "what is nobody's is not ours to delete"


def test_what_was_applied_under_our_name_beside_ours_is_applied_away() -> None:
    desired = children()
    observed = live(desired)
    deployment = next(
        child for child in observed.values() if child and child["kind"] == "Deployment"
    )
    deployment["spec"]["template"]["spec"]["hostIPC"] = True
    fields: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:hostIPC": {}}}}}
    deployment["metadata"]["managedFields"] = [OURS | {"fieldsV1": fields}]
    (action,) = (each for each in plan(observed, desired, OWNER) if each.type is ActionType.APPLY)
    assert action.why == "/spec/template/spec/hostIPC was added under our name"
    assert action.undoes
    assert not action.repair


def test_what_is_wanted_and_on_its_way_out_is_waited_for() -> None:
    desired = children(model=CACHED)
    observed = live(desired)
    for child in observed.values():
        if child and child["kind"] == "PersistentVolumeClaim":
            child["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert types(observed, desired)["PersistentVolumeClaim"] is ActionType.WAIT


def test_what_somebody_added_is_removed_and_what_kubernetes_completes_is_not() -> None:
    desired = children(model=CACHED)
    observed = live(desired)
    for child in observed.values():
        if child:
            fields: Manifest = {"f:spec": {"f:volumeName": {}}}
            child["metadata"]["managedFields"] = [OURS, {"manager": "x", "fieldsV1": fields}]
            child.setdefault("spec", {})["volumeName"] = "pv-1"
    repairs = {each.key.kind.kind: each.repair for each in plan(observed, desired, OWNER)}
    assert repairs.pop("PersistentVolumeClaim") == ()
    assert repairs.pop("ServiceAccount") == ()
    removal = {"op": "remove", "path": "/spec/volumeName"}
    assert list(repairs.values()) == [(removal,)] * len(repairs)


def test_which_versions_of_ip_a_service_has_is_left_to_others_unless_the_spec_says_it() -> None:
    """Kubernetes keeps it when it is taken out, so that taking it out would be in vain."""

    def repairs(**fields: Any) -> list[str]:
        desired = children(**fields)
        observed = live(desired)
        service = observed[ChildKey(SERVICE)]
        assert service is not None
        service["spec"]["ipFamilyPolicy"] = "RequireDualStack"
        added: Manifest = {"f:spec": {"f:ipFamilyPolicy": {}}}
        service["metadata"]["managedFields"] = [OURS, {"manager": "x", "fieldsV1": added}]
        actions = plan(observed, desired, OWNER)
        return [each.why for each in actions if each.type is ActionType.APPLY]

    assert repairs() == []
    (why,) = repairs(service={"ipFamilyPolicy": "SingleStack"})
    assert "spec.ipFamilyPolicy" in why


def test_what_nobody_is_known_to_have_written_is_applied_anew() -> None:
    """After `metadata.managedFields` was cleared additions cannot be told from defaults."""
    desired = children(model=CACHED)
    observed = live(desired)
    for child in observed.values():
        if child:
            del child["metadata"]["managedFields"]
    assert set(types(observed, desired).values()) == {ActionType.APPLY}


def test_a_claim_that_somebody_enlarged_keeps_its_size() -> None:
    def claim(size: str, manager: str) -> tuple[ActionType, str]:
        """What is done about 5Gi where the live claim has `size`, and the size that is applied."""
        observed = live(children(model={"uri": "hf://o/n", "cache": {"size": applied}}))
        (held,) = (each for key, each in observed.items() if each and key == MODEL_CACHE)
        held["spec"]["resources"]["requests"]["storage"] = size
        fields: Manifest = {"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}}
        held["metadata"]["managedFields"] = [OURS, {"manager": manager, "fieldsV1": fields}]
        actions = plan(observed, children(model=CACHED), OWNER)
        (action,) = (each for each in actions if each.key == MODEL_CACHE)
        assert action.desired is not None
        return action.type, action.desired["spec"]["resources"]["requests"]["storage"]

    applied = "5Gi"
    assert claim("10Gi", "kubectl-edit") == (ActionType.KEEP, "10Gi")
    assert claim("4Gi", "kubectl-edit") == (ActionType.APPLY, "5Gi")
    applied = "4Gi"
    assert claim("10Gi", "kubectl-edit") == (ActionType.APPLY, "10Gi")
    assert claim("10Gi", FIELD_MANAGER) == (ActionType.APPLY, "5Gi")


_THREADS = [{"name": "OMP_NUM_THREADS", "value": count} for count in "34"]
_PORTS = [{"name": name, "containerPort": 9, "protocol": "TCP"} for name in "ab"]
_NODES: dict[str, Any] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}


@pytest.mark.parametrize(
    ("where", "added", "owned", "named"),
    [
        ("env", _THREADS, {"f:env": {'k:{"name":"OMP_NUM_THREADS"}': {}}}, "/containers/0/env/"),
        (
            "ports",
            _PORTS,
            {"f:ports": {'k:{"containerPort":9,"protocol":"TCP"}': {}}},
            "/containers/0/ports/",
        ),
        ("affinity", _NODES, {"f:affinity": {"f:nodeAffinity": {}}}, "/affinity/nodeAffinity"),
    ],
)
def test_an_addition_whose_whole_place_is_put_back_is_undone_and_named(
    where: str, added: Any, owned: dict[str, Any], named: str
) -> None:
    """The patch takes nothing out then: it replaces a list or a map that holds the addition."""
    desired = children(model=CACHED)
    observed = live(desired)
    deployment = next(each for each in observed.values() if each and each["kind"] == "Deployment")
    wanted = copy.deepcopy(deployment["spec"])
    pod = deployment["spec"]["template"]["spec"]
    if where == "affinity":
        pod[where] |= added
    else:
        pod["containers"][0][where] += added
        owned = {"f:containers": {'k:{"name":"octavo"}': owned}}
    entry = {
        "manager": "kubectl-edit",
        "operation": "Update",
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": owned}}},
    }
    deployment["metadata"]["managedFields"] = [OURS, entry]
    (action,) = (each for each in plan(observed, desired, OWNER) if each.repair)
    assert named in action.why
    assert "was added" in action.why
    assert patched(deployment, action.repair)["spec"] == wanted


def test_a_label_that_takes_the_service_off_the_network_is_taken_off_and_others_stay() -> None:
    desired = children()
    observed = live(desired)
    service = next(each for each in observed.values() if each and each["kind"] == "Service")
    service["metadata"]["labels"]["team"] = "blue"
    assert set(types(observed, desired).values()) == {ActionType.KEEP}
    service["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"] = "mine"
    (action,) = (each for each in plan(observed, desired, OWNER) if each.repair)
    assert action.undoes
    path = "/metadata/labels/service.kubernetes.io~1service-proxy-name"
    assert action.repair == ({"op": "remove", "path": path},)
