from __future__ import annotations

import pytest

from octavo_operator.contest import MOST_APPLIES, WINDOW_SECONDS, Contests
from octavo_operator.manifest import SERVICE, ChildKey, Manifest
from octavo_operator.plan import Action, ActionType, plan
from octavo_operator.render import Owner
from tests.support.operator.builders import KEY, UID, children


def undone(**fields: object) -> list[Action]:
    """The Service of somebody else's making, to be applied again."""
    desired = [each for each in children(**fields) if each.key == ChildKey(SERVICE)]
    metadata = {**desired[0].manifest["metadata"], "resourceVersion": "1"}
    live = {**desired[0].manifest, "metadata": metadata, "spec": {"type": "NodePort"}}
    return plan({ChildKey(SERVICE): live}, desired, Owner(KEY, UID))


def types(contests: Contests, now: float, *, answered: str = "2") -> list[ActionType]:
    """What is done about it, and the resource version that the API server answers with."""
    actions = contests.hold(KEY, undone(), now)[0]
    answers: dict[ChildKey, Manifest] = {
        each.key: {"metadata": {"resourceVersion": answered}} for each in actions
    }
    contests.count(KEY, actions, answers, now)
    return [each.type for each in actions]


def kept() -> list[Action]:
    """The same Service as it is to be."""
    return [each.kept() for each in undone()]


def test_a_child_that_is_undone_again_and_again_is_left_alone_for_a_while() -> None:
    contests = Contests()
    for second in range(MOST_APPLIES):
        assert types(contests, float(second)) == [ActionType.APPLY]
    actions, told, wait = contests.hold(KEY, undone(), 10.0)
    assert [each.type for each in actions] == [ActionType.KEEP]
    assert told is not None
    assert "Service llama" in told.message
    assert wait == pytest.approx(WINDOW_SECONDS - 10)
    assert types(contests, WINDOW_SECONDS) == [ActionType.APPLY]


def test_a_repair_now_and_then_is_no_contest() -> None:
    contests = Contests()
    for step in range(4 * MOST_APPLIES):
        assert types(contests, step * WINDOW_SECONDS / (MOST_APPLIES - 1)) == [ActionType.APPLY]


def test_a_contest_is_told_until_a_whole_window_was_quiet() -> None:
    contests = Contests()
    for second in range(MOST_APPLIES):
        types(contests, float(second))
    for step in range(1, 20):
        now = step * WINDOW_SECONDS / 2
        assert contests.hold(KEY, kept(), now - 1)[1] is not None
        assert types(contests, now)
        assert contests.hold(KEY, kept(), now)[1] is not None
    quiet_from = now
    _, told, wait = contests.hold(KEY, kept(), quiet_from + WINDOW_SECONDS - 1)
    assert told is not None
    assert wait == pytest.approx(1)
    assert contests.hold(KEY, kept(), quiet_from + WINDOW_SECONDS)[1:] == (None, None)


def test_an_apply_that_changes_nothing_is_no_contest() -> None:
    """A webhook that has the last word on a field: what we apply comes out as what stood there."""
    contests = Contests()
    for _ in range(3 * MOST_APPLIES):
        assert types(contests, 0.0, answered="1") == [ActionType.APPLY]
    assert contests.hold(KEY, undone(), 0.0)[1] is None


def test_what_is_made_or_changed_by_the_spec_is_no_contest() -> None:
    contests = Contests()
    desired = children()
    for _ in range(2 * MOST_APPLIES):
        actions, told, _ = contests.hold(KEY, plan({}, desired, Owner(KEY, UID)), 0.0)
        assert told is None
        assert {each.type for each in actions} == {ActionType.APPLY}
