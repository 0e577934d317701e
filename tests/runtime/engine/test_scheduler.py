from __future__ import annotations

import dataclasses

import pytest

from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.requests.end_conditions import end_tokens
from octavo.engine.requests.sequence import Sequence, SequenceStatus
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.scheduler import Scheduler
from octavo.engine.step_limits import SchedulerConfig
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams

EOS = 0


def make_sequence(
    sequence_id: int, num_prompt_tokens: int = 4, max_output_tokens: int = 8, priority: int = 0
) -> Sequence:
    return Sequence(
        sequence_id=sequence_id,
        request_id=f"r{sequence_id}",
        index=0,
        prompt_token_ids=[sequence_id + 1] * num_prompt_tokens,
        params=SamplingParams(temperature=0.0),
        max_output_tokens=max_output_tokens,
        priority=priority,
    )


def make_scheduler(
    num_blocks: int = 100,
    block_size: int = 4,
    max_num_seqs: int = 8,
    budget: int = 64,
    caching: bool = True,
    per_decode: int | None = None,
) -> Scheduler:
    config = SchedulerConfig(
        max_num_seqs,
        budget,
        enable_prefix_caching=caching,
        short_step_tokens=3,
        chunk_tokens_per_decode=per_decode,
    )
    return Scheduler(config, BlockManager(num_blocks, block_size))


def shares(batch: ScheduledBatch) -> dict[int, int]:
    return {entry.sequence_id: len(entry.token_ids) for entry in batch.entries}


def run(scheduler: Scheduler, token: int = 1) -> dict[int, int]:
    """One step in which every sampled token is `token`."""
    batch = scheduler.schedule()
    sampled = [SampledToken(entry.sequence_id, token) for entry in batch.entries if entry.sampling]
    scheduler.update(batch, sampled)
    return shares(batch)


def test_a_long_prompt_is_cut_into_chunks_and_sampled_after_the_last() -> None:
    scheduler = make_scheduler(budget=8)
    scheduler.add(make_sequence(0, num_prompt_tokens=20))
    sampled = []
    for _ in range(4):
        batch = scheduler.schedule()
        sampled.append([entry.sampling is not None for entry in batch.entries])
        tokens = [SampledToken(entry.sequence_id, 1) for entry in batch.entries if entry.sampling]
        scheduler.update(batch, tokens)
    assert sampled == [[False], [False], [True], [True]]


def test_decodes_run_beside_a_prompt_chunk_within_one_budget() -> None:
    scheduler = make_scheduler(budget=8)
    scheduler.add(make_sequence(0, num_prompt_tokens=4))
    scheduler.add(make_sequence(1, num_prompt_tokens=30))
    assert run(scheduler) == {0: 4, 1: 4}
    assert run(scheduler) == {0: 1, 1: 7}


def test_a_decode_behind_a_long_prompt_does_not_wait_for_it() -> None:
    scheduler = make_scheduler(budget=8)
    scheduler.add(make_sequence(5, num_prompt_tokens=4))
    run(scheduler)
    scheduler.add(make_sequence(1, num_prompt_tokens=30, priority=-1))  # sorted before the decode
    assert run(scheduler) == {5: 1, 1: 7}
    assert run(scheduler) == {1: 7, 5: 1}


def test_long_prompts_have_so_many_tokens_for_each_decode_that_waits_for_them() -> None:
    scheduler = make_scheduler(num_blocks=1000, max_num_seqs=16, per_decode=3)
    scheduler.add(make_sequence(0, num_prompt_tokens=60))
    assert run(scheduler) == {0: 60}  # nobody waits for it
    scheduler.add(make_sequence(1, num_prompt_tokens=14))
    assert run(scheduler) == {0: 1, 1: 6}  # no fewer than two short steps have
    scheduler.add(make_sequence(2, num_prompt_tokens=7))
    assert run(scheduler) == {0: 1, 1: 6}  # of both together
    # What is left of the one is short.
    assert run(scheduler) == {0: 1, 1: 2, 2: 6}
    assert run(scheduler) == {0: 1, 1: 1, 2: 1}
    scheduler.add(make_sequence(3, num_prompt_tokens=100))
    assert run(scheduler) == {0: 1, 1: 1, 2: 1, 3: 9}
    scheduler.abort([0, 1, 2])
    assert run(scheduler) == {3: 64}


def test_short_prompts_run_whole_beside_a_decode() -> None:
    scheduler = make_scheduler(num_blocks=1000, max_num_seqs=16, per_decode=3)
    for number in range(6):
        scheduler.add(make_sequence(number, num_prompt_tokens=6))
        if not number:
            assert run(scheduler) == {0: 6}
    assert run(scheduler) == {0: 1, 1: 6, 2: 6, 3: 6, 4: 6, 5: 6}


def test_decodes_ask_for_no_more_of_prompts_than_a_step_holds() -> None:
    config = SchedulerConfig(64, 100, short_step_tokens=10, chunk_tokens_per_decode=4)
    assert [config.chunk_budget(count) for count in (0, 1, 6, 64)] == [100, 20, 24, 100]
    whole = dataclasses.replace(config, runs_whole_prompts=True)
    assert whole.chunk_budget(6) == 100
    assert dataclasses.replace(config, chunk_tokens_per_decode=None).chunk_budget(6) == 100


def test_nobody_overtakes_the_head_of_the_queue() -> None:
    scheduler = make_scheduler(num_blocks=8)
    scheduler.add(make_sequence(0, num_prompt_tokens=20))
    scheduler.add(make_sequence(1, num_prompt_tokens=16))  # does not fit beside the first
    scheduler.add(make_sequence(2, num_prompt_tokens=1))  # would
    assert run(scheduler) == {0: 20}
    assert scheduler.num_waiting == 2


def test_a_lower_priority_value_is_admitted_first() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    scheduler.add(make_sequence(0, priority=1))
    scheduler.add(make_sequence(1, priority=0))
    assert run(scheduler) == {1: 4}


def test_an_admission_leaves_room_for_the_next_decodes() -> None:
    scheduler = make_scheduler(num_blocks=4, block_size=4)
    scheduler.add(make_sequence(0, num_prompt_tokens=8, max_output_tokens=8))
    scheduler.add(make_sequence(1, num_prompt_tokens=8, max_output_tokens=8))
    assert run(scheduler) == {0: 8}  # the second would take the last block
    for _ in range(7):
        run(scheduler)
    assert run(scheduler) == {1: 8}
    assert scheduler.num_preemptions == 0


def test_the_youngest_is_preempted_and_recomputed_from_prompt_and_output() -> None:
    scheduler = make_scheduler(num_blocks=5, block_size=4, caching=False)
    old, young = make_sequence(0, 7, max_output_tokens=9), make_sequence(1, 4, max_output_tokens=9)
    scheduler.add(old)
    scheduler.add(young)
    while scheduler.num_preemptions == 0:
        run(scheduler)
    assert young.status is SequenceStatus.WAITING
    generated = list(young.output_token_ids)
    assert generated
    while 1 not in (step := run(scheduler)):
        pass
    assert step[1] == 4 + len(generated)
    assert young.output_token_ids[: len(generated)] == generated


def test_a_preempted_sequence_comes_back_before_those_that_never_ran() -> None:
    scheduler = make_scheduler(num_blocks=5, block_size=4)
    scheduler.add(make_sequence(0, 7, max_output_tokens=9))
    scheduler.add(make_sequence(1, 4, max_output_tokens=9))
    scheduler.add(make_sequence(2, 12, max_output_tokens=4))
    while scheduler.num_preemptions == 0:
        assert 2 not in run(scheduler)
    while (step := run(scheduler)).keys() == {0}:
        pass
    assert list(step) == [1]


def test_abort_frees_blocks_at_once() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(0))
    run(scheduler)
    assert scheduler.num_tokens_held == 4
    (ended,) = scheduler.abort([0, 99])
    assert ended.finish_reason is FinishReason.ABORT
    assert scheduler._blocks.num_free_blocks == 100
    assert scheduler.num_tokens_held == 0
    assert not scheduler.has_work


def test_a_sequence_aborted_while_it_waits_is_never_run() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    for sequence_id in range(3):
        scheduler.add(make_sequence(sequence_id, max_output_tokens=1))
    scheduler.abort([1])
    assert [run(scheduler), run(scheduler)] == [{0: 4}, {2: 4}]
    assert not scheduler.has_work


def test_a_sequence_aborted_during_its_step_gets_no_token() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(0))
    batch = scheduler.schedule()
    scheduler.abort([0])
    assert scheduler.update(batch, [SampledToken(0, 1)]) == []
    scheduler._blocks.check_integrity()
    assert scheduler.num_tokens_held == 0


@pytest.mark.parametrize(
    ("token", "params", "reason", "stop_reason"),
    [
        (EOS, SamplingParams(), FinishReason.STOP, None),
        (EOS, SamplingParams(ignore_eos=True), None, None),
        (5, SamplingParams(stop_token_ids=[5]), FinishReason.STOP, 5),
        (6, SamplingParams(stop_token_ids=[5]), None, None),
    ],
)
def test_what_ends_a_sequence(
    token: int, params: SamplingParams, reason: FinishReason | None, stop_reason: int | None
) -> None:
    scheduler = make_scheduler()
    ends = end_tokens(params, [EOS, 10**6], vocab_size=100)
    assert max(ends, default=0) < 100
    sequence = Sequence(0, "r", 0, [1, 2], params, max_output_tokens=8, end_token_ids=ends)
    scheduler.add(sequence)
    run(scheduler, token)
    assert (sequence.finish_reason, sequence.stop_reason) == (reason, stop_reason)


def test_the_last_allowed_token_ends_with_length() -> None:
    scheduler = make_scheduler()
    sequence = make_sequence(0, max_output_tokens=2)
    scheduler.add(sequence)
    run(scheduler)
    assert sequence.finish_reason is None
    run(scheduler)
    assert sequence.finish_reason is FinishReason.LENGTH


def test_a_sequence_that_can_outgrow_the_cache_is_refused() -> None:
    scheduler = make_scheduler(num_blocks=4, block_size=4)
    scheduler.add(make_sequence(0, num_prompt_tokens=9, max_output_tokens=8))
    with pytest.raises(ValueError, match="may hold 17 tokens, but the KV cache holds 16"):
        scheduler.add(make_sequence(1, num_prompt_tokens=10, max_output_tokens=8))


def test_a_step_with_the_wrong_tokens_is_refused_before_anything_changes() -> None:
    scheduler = make_scheduler()
    sequence = make_sequence(0)
    scheduler.add(sequence)
    batch = scheduler.schedule()
    with pytest.raises(ValueError, match="sampled 0 tokens for 1 sequences"):
        scheduler.update(batch, [])
    assert sequence.num_computed_tokens == 0
