"""An adapter of a step has a seat, and keeps it as long as nobody needs it more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.models.seat_holders import SeatHolders

SEATS = 3
STEPS = st.lists(
    st.tuples(st.sets(st.integers(1, 6), max_size=SEATS), st.none() | st.integers(1, 6)),
    max_size=30,
)


@given(STEPS)
def test_the_least_recently_used_one_makes_room(steps: list[tuple[set[int], int | None]]) -> None:
    holders = SeatHolders(SEATS)
    held: list[int] = []  # the least recently used first
    place: dict[int, int] = {}
    for wanted, leaving in steps:
        seats = holders.seat(wanted)
        new = wanted - set(held)
        others = [one for one in held if one not in wanted]
        held = others[max(0, len(others) + len(wanted) - SEATS) :] + sorted(wanted)
        for adapter_id in new:
            place[adapter_id] = seats[adapter_id]
        assert seats == {adapter_id: place[adapter_id] for adapter_id in wanted}
        taken = [place[adapter_id] for adapter_id in held]
        assert len(set(taken)) == len(taken)
        assert set(taken) <= set(range(SEATS))
        if leaving is not None:
            holders.leave(leaving)
            held = [one for one in held if one != leaving]


def test_more_adapters_than_seats_are_refused() -> None:
    with pytest.raises(ValueError, match="3 adapters, and there are 2 seats"):
        SeatHolders(2).seat([1, 2, 3])
