"""Grace of a server that leaves: until nobody new comes, within half of the time of what runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.server.process.grace import Grace

START = 100.0


class Leaving:
    """A server that is told to end at second 0, when some have come before."""

    def __init__(self, seconds: float, timeout_seconds: float) -> None:
        self.now = START
        self._num = 7
        self.grace = Grace(seconds, timeout_seconds, self._num, lambda: self.now)

    def at(self, second: float, num_new: int = 0, num_awaited: int = 0) -> float:
        """What is left then, when so many are seen to have come."""
        self.now = START + second
        self._num += num_new
        self.grace.observe(self._num, num_awaited)
        return self.grace.seconds_left


def test_nobody_comes_and_it_is_over_after_its_seconds() -> None:
    leaving = Leaving(5, 300)
    assert [leaving.at(second) for second in (0, 3, 5, 6)] == [5, 2, 0, 0]
    assert leaving.grace.is_quiet
    assert leaving.grace.seconds_taken == 6


def test_each_that_comes_begins_it_anew() -> None:
    leaving = Leaving(5, 300)
    assert leaving.at(4, num_new=1) == 5
    assert leaving.at(8.5, num_new=3) == 5
    assert not leaving.grace.is_quiet
    assert leaving.at(12.5) == 1
    assert leaving.at(13.5) == 0
    assert leaving.grace.is_quiet


def test_a_process_that_counted_and_is_gone_may_have_seen_somebody() -> None:
    leaving = Leaving(5, 300)
    assert leaving.at(4, num_new=-3) == 5


def test_who_never_stops_coming_takes_half_of_the_time_of_what_runs() -> None:
    leaving = Leaving(5, 20)
    assert leaving.at(14, num_new=1) == 1
    assert leaving.at(15, num_new=1) == 0
    assert not leaving.grace.is_quiet


def test_who_has_connected_and_not_asked_yet_is_waited_for() -> None:
    leaving = Leaving(5, 300)
    assert leaving.at(4, num_awaited=1) == 5
    assert leaving.at(8, num_awaited=1) == 5
    assert leaving.at(12) == 1
    assert leaving.at(155, num_awaited=1) == 0


@pytest.mark.parametrize("num_new", [0, 9])
def test_no_grace_is_none_whoever_comes(num_new: int) -> None:
    assert Leaving(0, 300).at(0, num_new) == 0


@given(
    seconds=st.integers(0, 100),
    timeout_seconds=st.integers(0, 100),
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=60),
)
def test_it_ends_no_sooner_than_its_seconds_and_leaves_half_of_the_time(
    seconds: int, timeout_seconds: int, steps: list[tuple[int, int]]
) -> None:
    """And the end of what runs never moves."""
    leaving = Leaving(seconds, timeout_seconds)
    second, last, ended = 0, 0, False
    for pause, num_new in steps:
        second += pause
        left = leaving.at(second, num_new)
        last = second if num_new else last
        assert (left == 0) is (
            second >= seconds + timeout_seconds / 2 or second >= last + seconds or seconds == 0
        )
        ended = ended or left == 0
        assert not ended or second >= seconds
        assert leaving.grace.deadline - leaving.now - left >= min(
            timeout_seconds / 2, seconds + timeout_seconds - second
        )
    assert leaving.grace.deadline == START + seconds + timeout_seconds
