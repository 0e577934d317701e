from __future__ import annotations

import copy

import kopf

from octavo_operator.children import CHILD_KINDS
from octavo_operator.handlers import STATUS_SECONDS, SeenGenerations, configure, owners, register
from octavo_operator.manifest import Manifest, ObjectKey
from tests.support.operator.builders import KEY, children, resource


def test_our_own_status_writes_are_no_change() -> None:
    seen, live = SeenGenerations(), resource()
    assert seen.seconds_until_look(KEY, live, "ADDED") == 0
    assert seen.seconds_until_look(KEY, live | {"status": {"replicas": 1}}, "MODIFIED") is None


def test_a_status_that_somebody_else_wrote_is_a_change() -> None:
    def status(manager: str, *fields: str, time: str = "1") -> Manifest:
        return {
            "manager": manager,
            "operation": "Apply" if manager == "octavo-operator" else "Update",
            "subresource": "status",
            "time": time,
            "fieldsV1": {"f:status": {f"f:{each}": {} for each in fields}},
        }

    ours = status("octavo-operator", "ready", "url")
    for held, is_change in (
        ([{**ours, "time": "2"}], False),
        ([ours, {**status("kubectl", "ready"), "subresource": ""}], False),
        ([ours, status("kubectl-edit", "ready")], True),
        ([status("octavo-operator", "ready")], True),
        ([], True),
    ):
        seen, live = SeenGenerations(), resource()
        live["metadata"]["managedFields"] = [ours]
        seen.seconds_until_look(KEY, live, "ADDED")
        after = copy.deepcopy(live)
        after["metadata"]["managedFields"] = held
        seconds = STATUS_SECONDS if is_change else None
        assert seen.seconds_until_look(KEY, after, "MODIFIED") == seconds


def test_a_child_with_another_s_name_in_its_label_is_looked_at_for_its_owner_too() -> None:
    """An edited label brings the event of the wrong object, and the right one would not know."""
    (child, *_) = (each.manifest for each in children())
    assert owners(child) == {KEY}
    child["metadata"]["labels"]["octavo.dev/llmdeployment"] = "other"
    assert owners(child) == {KEY, ObjectKey(KEY.namespace, "other")}
    pod = {**child, "metadata": {**child["metadata"], "ownerReferences": []}}
    assert owners(pod) == {ObjectKey(KEY.namespace, "other")}


def test_spec_labels_identity_and_deletion_are_changes() -> None:
    for field, value in (
        ("generation", 2),
        ("labels", {"a": "b"}),
        ("uid", "another"),
        ("deletionTimestamp", "2026-01-01T00:00:00Z"),
    ):
        seen, live = SeenGenerations(), resource()
        seen.seconds_until_look(KEY, live, "ADDED")
        changed = copy.deepcopy(live)
        changed["metadata"][field] = value
        assert seen.seconds_until_look(KEY, changed, "MODIFIED") == 0, field


def test_a_listing_always_counts_because_events_may_have_been_missed() -> None:
    seen, live = SeenGenerations(), resource()
    seen.seconds_until_look(KEY, live, "ADDED")
    assert seen.seconds_until_look(KEY, live, None) == 0


def test_an_object_made_anew_is_a_change_after_its_deletion() -> None:
    seen, live = SeenGenerations(), resource()
    seen.seconds_until_look(KEY, live, "ADDED")
    assert seen.seconds_until_look(KEY, live, "DELETED") == 0
    assert seen.seconds_until_look(KEY, live, "ADDED") == 0


def test_every_kind_of_child_is_watched_by_label_and_nothing_writes() -> None:
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    register(registry, lambda _key, _seconds: None)
    configure(settings)
    watched = {
        handler.selector.any_name
        for handler in registry._watching.get_all_handlers()
        if handler.selector is not None
    }
    children = {kind.plural for kind in CHILD_KINDS} | {"pods", "endpointslices"}
    assert watched == children | {"llmdeployments"}
    assert len(settings.watching.label_selectors) == len(children)
    # Handlers of changes, timers and daemons would add annotations and finalizers.
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
