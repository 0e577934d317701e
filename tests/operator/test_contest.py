from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.children import desired
from octavo_operator.contest import (
    LONGEST_HOLD_SECONDS,
    LONGEST_QUIET_SECONDS,
    MOST_REPAIRS,
    MOST_REPAIRS_OF_LONG,
    WINDOW_SECONDS,
    Contests,
)
from octavo_operator.manifest import (
    DEPLOYMENT,
    NETWORK_POLICY,
    SERVICE,
    Child,
    ChildKey,
    Manifest,
)
from octavo_operator.plan import Action, ActionType, plan
from octavo_operator.render import Owner, RenderContext
from octavo_operator.workload import workload_of
from tests.support.operator.builders import KEY, UID, children, context
from tests.support.operator.fake_kube import OURS

OWNER = Owner(KEY, UID)
THE_SERVICE = ChildKey(SERVICE)


def service(**fields: Any) -> Child:
    (found,) = (each for each in children(**fields) if each.key == THE_SERVICE)
    return found


def standing(child: Child, **spec: Any) -> Manifest:
    """As the API server holds it, with what somebody else made of it."""
    entry = {"manager": "restorer", "operation": "Update"}
    written = {"resourceVersion": "1", "managedFields": [OURS, entry]}
    metadata = {**child.manifest["metadata"], **written}
    return {**child.manifest, "metadata": metadata, "spec": child.manifest["spec"] | spec}


@functools.cache
def undone() -> list[Action]:
    """The Service of somebody else's making, to be applied again."""
    return plan({THE_SERVICE: standing(service(), type="NodePort")}, [service()], OWNER)


@functools.cache
def led_away() -> list[Action]:
    """The Service with another selector: nobody reaches the pods."""
    live = standing(service(), selector={"app": "another"})
    return plan({THE_SERVICE: live}, [service()], OWNER)


@functools.cache
def labelled_away() -> list[Action]:
    """The Service with a label for which kube-proxy leaves it alone."""
    live = standing(service())
    labels = live["metadata"]["labels"] | {"service.kubernetes.io/headless": ""}
    metadata = live["metadata"] | {"labels": labels}
    return plan({THE_SERVICE: live | {"metadata": metadata}}, [service()], OWNER)


@functools.cache
def kept() -> list[Action]:
    """The same Service as it is to be."""
    return plan({THE_SERVICE: standing(service())}, [service()], OWNER)


@functools.cache
def deleted() -> list[Action]:
    return plan({}, [service()], OWNER)


def types(
    contests: Contests, now: float, actions: list[Action], *, answered: str = "2"
) -> list[ActionType]:
    """What is done about it, and the resource version that the API server answers with."""
    actions = contests.hold(KEY, actions, now)[0]
    answer: Manifest = {"metadata": {"resourceVersion": answered}}
    gone = ActionType.DELETE
    contests.count(
        KEY, actions, {each.key: None if each.type is gone else answer for each in actions}, now
    )
    return [each.type for each in actions]


def test_a_child_that_is_undone_again_and_again_is_left_alone_for_a_while() -> None:
    contests = Contests()
    for second in range(MOST_REPAIRS):
        assert types(contests, float(second), undone()) == [ActionType.APPLY]
    actions, told, wait = contests.hold(KEY, undone(), 10.0)
    assert [each.type for each in actions] == [ActionType.KEEP]
    assert told is not None
    assert "Service llama" in told.message
    assert "restorer" in told.message
    last = MOST_REPAIRS - 1
    assert wait == pytest.approx(last + WINDOW_SECONDS - 10)
    assert types(contests, last + WINDOW_SECONDS, undone()) == [ActionType.APPLY]


@pytest.mark.parametrize("led_away", [led_away, labelled_away])
def test_a_service_off_its_pods_is_put_back_once_more_in_each_hold(
    led_away: Callable[[], list[Action]],
) -> None:
    contests = Contests()
    for second in range(MOST_REPAIRS):
        types(contests, float(second), undone())
    assert types(contests, 10.0, undone()) == [ActionType.KEEP]
    assert types(contests, 11.0, led_away()) == [ActionType.APPLY]
    again = 11.0 + 2 * WINDOW_SECONDS
    assert types(contests, again - 1, led_away()) == [ActionType.KEEP]
    for _ in range(2):
        assert types(contests, again, led_away()) == [ActionType.APPLY]
    assert types(contests, again, led_away()) == [ActionType.KEEP]


def of_another_octavo(
    key: ChildKey, *, restored: bool = False, **installation: Any
) -> list[Action]:
    """A child as another release rendered it, in whose place ours is to be applied."""
    ours, theirs = (
        next(each for each in desired(made, workload_of(made.spec)) if each.key == key)
        for made in (context(), with_installation(**installation))
    )
    owned: Manifest = {"f:metadata": {"f:annotations": {"f:octavo.dev/manifest-hash": {}}}}
    entries = [OURS, {"manager": "velero", "operation": "Update", "fieldsV1": owned}]
    written = entries if restored else [OURS | {"fieldsV1": owned}]
    metadata = {**theirs.manifest["metadata"], "resourceVersion": "1", "managedFields": written}
    return plan({key: {**theirs.manifest, "metadata": metadata}}, [ours], OWNER)


def with_installation(**fields: Any) -> RenderContext:
    made = context()
    other = replace(made.installation, **fields)
    return replace(made, pods=replace(made.pods, installation=other))


def contested(actions: list[Action]) -> str:
    contests = Contests()
    for second in range(1 + MOST_REPAIRS):
        types(contests, float(second), actions)
    told = contests.hold(KEY, actions, 10.0)[1]
    assert told is not None
    return told.message


def test_another_octavo_operator_is_told_with_its_namespace() -> None:
    """Both write by one name, so that `managedFields` tell them not apart."""
    actions = of_another_octavo(ChildKey(NETWORK_POLICY), operator_namespace="plat")
    told = contested(actions)
    assert "undone each time by another Octavo operator, which lets namespace plat in;" in told
    assert "watchNamespaces" in told
    assert "managedFields" not in told
    told = contested(of_another_octavo(ChildKey(DEPLOYMENT), runtime_image="example.com/r:2"))
    assert "undone each time by another Octavo operator;" in told


def test_who_restores_what_an_operator_applied_is_none() -> None:
    actions = of_another_octavo(
        ChildKey(DEPLOYMENT), restored=True, runtime_image="example.com/r:2"
    )
    assert "Octavo operator" not in contested(actions)
    assert "velero" in contested(actions)


def test_a_repair_now_and_then_is_no_contest() -> None:
    contests = Contests()
    for hour in range(3 * MOST_REPAIRS_OF_LONG):
        assert types(contests, hour * 3600.0, undone()) == [ActionType.APPLY]
        assert contests.hold(KEY, kept(), hour * 3600.0 + 1)[1] is None


def test_a_contest_is_told_until_a_whole_window_was_quiet() -> None:
    contests = Contests()
    for second in range(MOST_REPAIRS):
        types(contests, float(second), undone())
    for step in range(1, 20):
        now = step * WINDOW_SECONDS / 2
        assert contests.hold(KEY, kept(), now - 1)[1] is not None
        assert types(contests, now, undone())
        assert contests.hold(KEY, kept(), now)[1] is not None
    quiet = 2 * (WINDOW_SECONDS / 2)
    _, told, wait = contests.hold(KEY, kept(), now + quiet - 1)
    assert told is not None
    assert wait == pytest.approx(1)
    assert contests.hold(KEY, kept(), now + LONGEST_QUIET_SECONDS)[1:] == (None, None)


@pytest.mark.parametrize("period", [120.0, 180.0, 600.0, 1800.0])
def test_a_tool_that_restores_at_its_own_pace_is_told_without_a_break_and_slowed(
    period: float,
) -> None:
    contests = Contests()
    repairs, told = [], []
    for step in range(60):
        restored_at = step * period
        if ActionType.APPLY in types(contests, restored_at, undone()):
            repairs.append(restored_at)
            told.append(contests.hold(KEY, kept(), restored_at + period - 1)[1] is not None)
        else:
            told.append(contests.hold(KEY, undone(), restored_at + period - 1)[1] is not None)
    assert told.index(True) <= MOST_REPAIRS_OF_LONG
    assert all(told[told.index(True) :])
    gaps = [later - sooner for sooner, later in pairwise(repairs)]
    assert gaps[-1] >= LONGEST_HOLD_SECONDS


def test_what_somebody_deletes_again_and_again_is_a_contest_too() -> None:
    contests = Contests()
    assert types(contests, 0.0, deleted()) == [ActionType.APPLY]
    for second in range(MOST_REPAIRS):
        assert types(contests, float(second), deleted()) == [ActionType.APPLY]
    assert types(contests, 9.0, deleted()) == [ActionType.APPLY]  # nobody reaches the pods
    actions, told, _ = contests.hold(KEY, deleted(), 10.0)
    assert [each.type for each in actions] == [ActionType.KEEP]
    assert told is not None


def test_what_somebody_brings_back_again_and_again_is_a_contest_too() -> None:
    unwanted = plan({THE_SERVICE: standing(service())}, [], OWNER)
    contests = Contests()
    for second in range(1 + MOST_REPAIRS):
        assert types(contests, float(second), unwanted) == [ActionType.DELETE]
    assert types(contests, 10.0, unwanted) == [ActionType.KEEP]


def test_another_wish_passes_through_a_contest() -> None:
    contests = Contests()
    for second in range(MOST_REPAIRS):
        types(contests, float(second), undone())
    assert types(contests, 10.0, undone()) == [ActionType.KEEP]
    wish = service()
    wish.manifest["metadata"]["annotations"] = {"octavo.dev/manifest-hash": "another"}
    changed = plan({THE_SERVICE: standing(service(), type="NodePort")}, [wish], OWNER)
    assert types(contests, 11.0, changed) == [ActionType.APPLY]
    assert contests.hold(KEY, kept(), 12.0)[1] is not None


def test_two_who_want_other_numbers_each_time_are_told() -> None:
    """An autoscaler of the Deployment beside ours: what is applied is never the same twice."""
    contests = Contests()
    for second in range(MOST_REPAIRS):
        wish = service()
        wish.manifest["metadata"]["annotations"] = {"octavo.dev/manifest-hash": str(second)}
        actions = plan({THE_SERVICE: standing(wish, type="NodePort")}, [wish], OWNER)
        assert types(contests, float(second), actions) == [ActionType.APPLY]
    assert contests.hold(KEY, kept(), 10.0)[1] is not None


def test_an_apply_that_changes_nothing_is_no_contest() -> None:
    """A webhook that has the last word on a field: what we apply comes out as what stood there."""
    contests = Contests()
    for _ in range(3 * MOST_REPAIRS_OF_LONG):
        assert types(contests, 0.0, undone(), answered="1") == [ActionType.APPLY]
    assert contests.hold(KEY, undone(), 0.0)[1] is None


def test_what_is_made_or_changed_by_the_spec_is_no_contest() -> None:
    contests = Contests()
    for change in range(3 * MOST_REPAIRS_OF_LONG):
        wish = service()
        wish.manifest["metadata"]["annotations"] = {"octavo.dev/manifest-hash": str(change % 2)}
        live = standing(service()) if change else None
        assert types(contests, float(change), plan({THE_SERVICE: live}, [wish], OWNER)) == [
            ActionType.APPLY
        ]
    assert contests.hold(KEY, kept(), 100.0)[1] is None


@given(st.lists(st.floats(0.1, 1200.0), min_size=50, max_size=300), st.booleans())
def test_at_whatever_pace_somebody_undoes_it_the_repairs_get_rare(
    gaps: list[float], is_led_away: bool
) -> None:
    actions, share = (led_away(), 2) if is_led_away else (undone(), 1)
    contests, now, repairs = Contests(), 0.0, 0
    for gap in gaps:
        now += gap
        repairs += types(contests, now, actions) == [ActionType.APPLY]
    # Before it is a contest, while the holds double, and then one in each of the longest.
    assert repairs <= MOST_REPAIRS_OF_LONG + 5 + share * (now / LONGEST_HOLD_SECONDS + 1)
