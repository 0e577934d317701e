"""A step is the same after it went over the pipe as a frame."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence, ScoredRows
from octavo.worker.ranks.step_frames import pack_step, unpack_step

NUMBERS = st.integers(0, 2**31 - 1)
STATE = SamplingState(SamplingParams(temperature=0.5), 3, (1,), (2,))
ENTRIES = st.builds(
    ScheduledSequence,
    NUMBERS,
    st.lists(NUMBERS, max_size=9),
    NUMBERS,
    st.lists(NUMBERS, max_size=9),
    st.sampled_from([None, STATE, dataclasses.replace(STATE, second_segment=3)]),
    st.none() | st.builds(ScoredRows, st.lists(NUMBERS, min_size=1, max_size=4), NUMBERS),
    st.integers(0, 4),
    st.just(0) | st.integers(1, 2**63 - 1),
)


@given(st.lists(ENTRIES, max_size=6), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4))
def test_a_step_is_the_same_after_its_frame(
    entries: list[ScheduledSequence], copies: list[tuple[int, int]]
) -> None:
    found, found_copies = unpack_step(pack_step(entries, copies))
    assert found_copies == copies
    assert list(map(sent, found)) == list(map(sent, entries))


def sent(entry: ScheduledSequence) -> tuple[object, ...]:
    """What another rank must know of an entry."""
    num_scored = 0 if entry.scored is None else len(entry.scored.targets)
    segment = entry.sampling and entry.sampling.second_segment
    return (
        entry.token_ids,
        entry.start,
        entry.block_ids,
        entry.sampling is not None,
        segment,
        num_scored,
        entry.num_drafts,
        entry.adapter_id,
    )
