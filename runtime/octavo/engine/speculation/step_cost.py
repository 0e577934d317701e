"""Step cost. How long steps take, by sequences and drafts, as it was measured in this process.

A step of few rows waits for weights and one of many for arithmetic, so a draft is nearly free on one machine
and costs as much as a token on another: nothing but the clock knows. What was not measured yet is hoped to
be cheap, so that it is tried once and known from then on; what was not measured for long is tried again.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque

_EXACT = 16
"""So many rows are told apart; of more, those within 9 % of each other are not."""
_PER_OCTAVE = 8
_NUM_KEPT = 7
_FIRST_REACH = 8
_SHORTEST = 1e-9
_MAX_AGE = 2000
"""Steps of as many sequences after which a measurement means nothing any more."""
_NUM_PLAIN = 3
"""Steps without drafts that are measured before any has some: the first are slow, since a device that repeats
steps records them."""
_OFTEN, _SELDOM = 8, 64
"""Steps with drafts behind which one without is measured again, at first and from then on: what drafts gain
is known beside it alone, and it changes as texts grow."""


class StepCost:
    """Seconds of steps that only decode."""

    def __init__(self) -> None:
        self._by_size: dict[int, Curve] = {}

    def observe(self, num_sequences: int, num_drafts: int, seconds: float) -> None:
        size = size_bucket(num_sequences)
        curve = self._by_size.get(size)
        if curve is None:
            curve = self._by_size[size] = Curve()
        curve.observe(num_drafts, seconds)

    def curve(self, num_sequences: int) -> Curve | None:
        """None while too few steps of as many sequences were measured without drafts."""
        curve = self._by_size.get(size_bucket(num_sequences))
        return curve if curve is not None and curve.is_known else None


class Curve:
    """Seconds by drafts, of steps of about as many sequences."""

    __slots__ = ("_num_drafted", "_num_steps", "_places", "_points", "_seconds")

    def __init__(self) -> None:
        self._num_drafted = 0  # steps in a row
        self._num_steps = 0
        self._points: dict[int, _Point] = {}  # by bucket of the drafts
        self._places: list[float] = []  # of the points, in order: their drafts
        self._seconds: list[float] = []

    @property
    def is_known(self) -> bool:
        plain = self._points.get(0)
        return plain is not None and plain.num_times >= _NUM_PLAIN

    @property
    def is_plain_due(self) -> bool:
        """Whether the next step should be measured without drafts."""
        is_new = self._points[0].num_times < _NUM_KEPT
        return self._num_drafted >= (_OFTEN if is_new else _SELDOM)

    def has_measured(self, num_drafts: int) -> bool:
        """Whether often enough to tell a disturbed step."""
        point = self._points.get(size_bucket(num_drafts))
        return point is not None and point.num_times >= _NUM_PLAIN

    def observe(self, num_drafts: int, seconds: float) -> None:
        self._num_drafted = self._num_drafted + 1 if num_drafts else 0
        self._num_steps += 1
        bucket = size_bucket(num_drafts)
        point = self._points.get(bucket)
        if point is None:
            point = self._points[bucket] = _Point(num_drafts)
        point.add(seconds, self._num_steps)
        if self._num_steps % _NUM_KEPT == 0 or len(self._points) != len(self._places):
            self._drop_old()
        self._draw()

    @property
    def reach(self) -> int:
        """Drafts of a step that may be tried: twice as many as were, so that hope costs little."""
        return max(_FIRST_REACH, 2 * int(self._places[-1]))

    def seconds(self, num_drafts: int) -> float:
        """On straight lines through the measured ones."""
        places = self._places
        index = bisect_left(places, num_drafts)
        if index == 0 or len(places) == 1:
            return self._seconds[0]
        index = min(index, len(places) - 1)
        left, right = places[index - 1], places[index]
        share = (num_drafts - left) / (right - left)
        return self._seconds[index - 1] * (1 - share) + self._seconds[index] * share

    def _drop_old(self) -> None:
        oldest = self._num_steps - _MAX_AGE
        for bucket in [b for b, point in self._points.items() if b and point.last_step < oldest]:
            del self._points[bucket]

    def _draw(self) -> None:
        """More drafts never take less time: what says so was disturbed."""
        points = [self._points[bucket] for bucket in sorted(self._points)]
        self._places = [point.num_drafts for point in points]
        self._seconds = [point.seconds for point in points]
        if 0 in self._points:
            for index in range(1, len(points)):
                self._seconds[index] = max(self._seconds[index], self._seconds[index - 1])


class _Point:
    """The last times of one kind of step; what a third of them do not exceed, since other programs disturb a
    few, and the first of a kind are slow."""

    __slots__ = ("_times", "last_step", "num_drafts", "seconds")

    def __init__(self, num_drafts: int) -> None:
        self.num_drafts = float(num_drafts)
        self.seconds = 0.0
        self.last_step = 0
        self._times: deque[float] = deque(maxlen=_NUM_KEPT)

    def add(self, seconds: float, step: int) -> None:
        self._times.append(max(seconds, _SHORTEST))
        self.last_step = step
        ordered = sorted(self._times)
        self.seconds = ordered[(len(ordered) - 1) // 3]

    @property
    def num_times(self) -> int:
        return len(self._times)


def size_bucket(count: int) -> int:
    """Counts that are not told apart have the same."""
    if count <= _EXACT:
        return count
    return _EXACT + int(_PER_OCTAVE * math.log2(count / _EXACT))
