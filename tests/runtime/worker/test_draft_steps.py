"""Rows of what guesses are divided into steps, none of which is too long and none of which is missing."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from octavo.worker.draft_steps import in_steps


@given(st.lists(st.integers(1, 9)), st.integers(1, 12))
def test_neighbours_share_a_step_while_it_has_room(sizes: list[int], most: int) -> None:
    steps = list(in_steps(sizes, lambda size: size, most))
    assert [size for step in steps for size in step] == sizes
    assert all(sum(step) <= most or len(step) == 1 for step in steps)
    assert all(sum(step) + following[0] > most for step, following in itertools.pairwise(steps))
