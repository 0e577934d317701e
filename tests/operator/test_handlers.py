from __future__ import annotations

import copy

import kopf

from octavo_operator.children import CHILD_KINDS
from octavo_operator.handlers import SeenGenerations, configure, register
from tests.support.operator.builders import KEY, resource


def test_our_own_status_writes_are_no_change() -> None:
    seen, live = SeenGenerations(), resource()
    assert seen.is_change(KEY, live, "ADDED")
    assert not seen.is_change(KEY, live | {"status": {"replicas": 1}}, "MODIFIED")


def test_spec_labels_identity_and_deletion_are_changes() -> None:
    for field, value in (
        ("generation", 2),
        ("labels", {"a": "b"}),
        ("uid", "another"),
        ("deletionTimestamp", "2026-01-01T00:00:00Z"),
    ):
        seen, live = SeenGenerations(), resource()
        seen.is_change(KEY, live, "ADDED")
        changed = copy.deepcopy(live)
        changed["metadata"][field] = value
        assert seen.is_change(KEY, changed, "MODIFIED"), field


def test_a_listing_always_counts_because_events_may_have_been_missed() -> None:
    seen, live = SeenGenerations(), resource()
    seen.is_change(KEY, live, "ADDED")
    assert seen.is_change(KEY, live, None)


def test_an_object_made_anew_is_a_change_after_its_deletion() -> None:
    seen, live = SeenGenerations(), resource()
    seen.is_change(KEY, live, "ADDED")
    assert seen.is_change(KEY, live, "DELETED")
    assert seen.is_change(KEY, live, "ADDED")


def test_every_kind_of_child_is_watched_by_label_and_nothing_writes() -> None:
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    register(registry, lambda _key: None)
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
