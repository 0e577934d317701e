"""What a step sends to the device: differences, and little of them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from octavo.kernels.reference import device as reference
from octavo.sampling.device.rows import SamplingRows
from octavo.sampling.device.samples import DrawSections
from octavo.sampling.processors.base import DeviceRoom
from octavo.sampling.processors.guessed_counts import NO_COUNTS
from octavo.sampling.processors.penalties import PackedPenalties
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence, StepBatch
from octavo.worker.gpu.state_rows import StateRows
from octavo.worker.gpu.step_packing import PackedStep, pack_step
from octavo.worker.gpu.upload import Uploader
from tests.support.runtime.stepping import GREEDY

BLOCK_SIZE = 4


def make_rows(num_rows: int) -> StateRows:
    room = DeviceRoom(reference, 100, num_rows, torch.device("cpu"))
    return StateRows(num_rows, SamplingRows(room, 0))


def entry(
    index: int, tokens: list[int], start: int, blocks: list[int], params: SamplingParams = GREEDY
) -> ScheduledSequence:
    state = SamplingState(params, 3, [1] * 8, [])
    return ScheduledSequence(index, tokens, start, blocks, state)


def pack(rows: StateRows, *entries: ScheduledSequence, **batch: object) -> PackedStep:
    step = StepBatch(entries, **batch)  # type: ignore[arg-type]
    rows.release(step.released)
    return pack_step(step, rows, vocab_size=100, block_size=BLOCK_SIZE, max_blocks=64)


def values(step: PackedStep, first: int, count: int) -> list[int]:
    target = np.zeros(step.packer.size, dtype=np.int32)
    step.packer.write(target)
    result: list[int] = target[first : first + count].tolist()
    return result


def draw_of(step: PackedStep) -> DrawSections:
    assert step.sampled is not None
    assert step.sampled.samples.draw is not None
    return step.sampled.samples.draw


def penalties_of(step: PackedStep) -> PackedPenalties:
    assert step.sampled is not None
    (penalties,) = step.sampled.samples.shapes
    assert isinstance(penalties, PackedPenalties)
    return penalties


def updates(step: PackedStep) -> list[int]:
    return values(step, step.layout.updates, 3 * step.layout.num_updates)


def test_a_table_is_sent_once_and_then_as_it_grows() -> None:
    rows, blocks = make_rows(4), [7, 9]
    first = pack(rows, entry(5, [1] * 8, 0, blocks))
    row = values(first, first.layout.rows, 1)[0]
    assert updates(first) == [row, row, 0, 1, 7, 9]
    assert updates(pack(rows, entry(5, [PENDING_TOKEN], 8, blocks))) == []
    blocks.append(3)
    assert updates(pack(rows, entry(5, [PENDING_TOKEN], 9, blocks))) == [row, 2, 3]
    blocks[1] = 6
    copied = pack(rows, entry(5, [PENDING_TOKEN], 10, blocks), block_copies=[(9, 6)])
    assert updates(copied) == [row, 1, 6]
    again = pack(rows, entry(5, [1] * 8, 0, blocks), released=[5])
    assert again.layout.num_updates == 3


def test_a_steady_step_of_256_greedy_decodes_takes_some_kilobytes() -> None:
    rows = make_rows(512)
    tables = [[i] for i in range(256)]
    pack(rows, *(entry(i, [1, 2], 0, tables[i]) for i in range(256)))
    step = pack(rows, *(entry(i, [PENDING_TOKEN], 2, tables[i]) for i in range(256)))
    assert step.sampled is not None
    assert step.sampled.hidden_rows is None
    assert step.sampled.samples.draw is None
    assert 4 * step.packer.size < 256 * 26


def test_decodes_come_first_and_samples_stay_in_the_batchs_order() -> None:
    rows = make_rows(4)
    step = pack(rows, entry(1, [4, 5, 6], 0, [0]), entry(2, [7], 3, [1]))
    layout = step.layout
    assert (layout.num_decodes, layout.num_seqs) == (1, 2)
    assert values(step, layout.token_ids, 4) == [7, 4, 5, 6]
    assert values(step, layout.query_start, 3) == [0, 1, 4]
    assert step.sampled is not None
    assert step.sampled.samples.sequence_ids == [1, 2]
    assert step.sampled.hidden_rows is not None
    assert values(step, step.sampled.hidden_rows, 4) == [3, 0, 0, 0]  # int64


def test_drafts_are_decodes_of_their_sequence_each_sampled_behind_those_before() -> None:
    rows = make_rows(4)
    params = SamplingParams(temperature=0.7, presence_penalty=1.0, seed=3)
    guessed = msgspec.structs.replace(entry(1, [4, 5, 6], 9, [7, 8, 9], params), num_drafts=2)
    step = pack(rows, guessed, entry(2, [1, 2], 0, [3]), entry(3, [7], 3, [2]))
    layout, row = step.layout, values(step, step.layout.rows, 1)[0]
    assert (layout.num_decodes, layout.num_seqs) == (4, 5)
    assert values(step, layout.rows, 4)[:3] == [row] * 3
    assert values(step, layout.starts, 4) == [9, 10, 11, 3]
    assert values(step, layout.token_ids, 6) == [4, 5, 6, 7, 1, 2]
    assert step.sampled is not None
    samples = step.sampled.samples
    assert samples.sequence_ids == [1, 1, 1, 2, 3]
    assert [one.guesses for one in samples.states] == [(), (5,), (5, 6), (), ()]
    assert values(step, draw_of(step).position, 6)[::2] == [2, 3, 4]  # int64, of a prompt of 8
    assert samples.drafts is not None
    assert values(step, samples.drafts.following, 10)[::2] == [5, 6, -1, -1, -1]
    assert values(step, samples.drafts.first, 10)[::2] == [0, 0, 0, 3, 4]
    penalties = penalties_of(step)
    assert len(set(values(step, penalties.count_rows, 3))) == 3  # counts of their own


def test_what_lies_behind_the_known_tokens_is_sent_anew_after_drafts() -> None:
    """They may not come true: the blocks are given back then."""
    rows, blocks = make_rows(4), [7, 8]
    pack(rows, entry(1, [1] * 7, 0, blocks))
    guessed = msgspec.structs.replace(entry(1, [1, 2, 3], 7, [*blocks, 9]), num_drafts=2)
    step = pack(rows, guessed)
    row = values(step, step.layout.rows, 1)[0]
    assert updates(step) == [row, 2, 9]
    again = pack(rows, entry(1, [1], 8, [*blocks, 5]))
    assert updates(again) == [row, 2, 5]
    pack(rows, guessed)
    with pytest.raises(ValueError, match="pending token, but no step"):
        pack(rows, entry(1, [PENDING_TOKEN], 10, [*blocks, 5]))


def test_sections_are_aligned_as_kernels_expect() -> None:
    sampled = SamplingParams(temperature=0.5, top_k=3, presence_penalty=1.0)
    step = pack(make_rows(4), *(entry(i, [4], 0, [i], sampled) for i in range(3)))
    draw, penalties = draw_of(step), penalties_of(step)
    for offset in (draw.temperature, draw.top_k, draw.seed, draw.position, penalties.count_rows):
        assert offset % 4 == 0


def test_rows_of_counts_are_only_those_of_penalties_and_come_back() -> None:
    rows = make_rows(4)
    penalised = SamplingParams(temperature=0.0, frequency_penalty=0.5)
    step = pack(rows, entry(1, [4], 0, [0]), entry(2, [4], 0, [1], penalised))
    penalties = penalties_of(step)
    assert [(row, state.params) for row, state in penalties.begun.items()] == [(0, penalised)]
    assert values(step, penalties.count_rows, 2) == [NO_COUNTS, 0]
    rows.release([2])
    again = penalties_of(pack(rows, entry(3, [4], 0, [1], penalised)))
    assert list(again.begun) == [0]


def test_more_sequences_than_rows_is_an_error() -> None:
    rows = make_rows(2)
    with pytest.raises(RuntimeError, match="all 2 are taken"):
        pack(rows, *(entry(i, [4], 0, [i]) for i in range(3)))


def test_an_upload_larger_than_the_buffers_grows_them() -> None:
    uploader = Uploader(8, torch.device("cpu"))
    rows = make_rows(4)
    for count in (1, 50, 2, 60, 3):
        step = pack(rows, entry(1, list(range(count)), 0, [0] * 4), released=[1])
        packed = uploader.upload(step.packer)
        first = step.layout.token_ids
        assert packed[first : first + count].tolist() == list(range(count))
