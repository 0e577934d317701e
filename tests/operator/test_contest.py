from __future__ import annotations

import pytest

from octavo_operator.contest import MOST_APPLIES, WINDOW_SECONDS, Contests
from octavo_operator.manifest import SERVICE, ChildKey
from octavo_operator.plan import Action, ActionType, plan
from octavo_operator.render import Owner
from tests.support.operator.builders import KEY, UID, children


def undone(**fields: object) -> list[Action]:
    """The Service of somebody else's making, to be applied again."""
    desired = [each for each in children(**fields) if each.key == ChildKey(SERVICE)]
    live = {**desired[0].manifest, "spec": {"type": "NodePort"}}
    return plan({ChildKey(SERVICE): live}, desired, Owner(KEY, UID))


def types(contests: Contests, now: float) -> list[ActionType]:
    return [each.type for each in contests.hold(KEY, undone(), now)[0]]


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


def test_what_is_made_or_changed_by_the_spec_is_no_contest() -> None:
    contests = Contests()
    desired = children()
    for _ in range(2 * MOST_APPLIES):
        actions, told, _ = contests.hold(KEY, plan({}, desired, Owner(KEY, UID)), 0.0)
        assert told is None
        assert {each.type for each in actions} == {ActionType.APPLY}
