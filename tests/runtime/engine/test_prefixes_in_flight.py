"""Requests that begin alike and arrive together: one computes the prefix, the others wait and share it."""

from __future__ import annotations

from collections.abc import Sequence as AbstractSequence

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.messages import AddRequest
from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduler import Scheduler
from octavo.engine.step_limits import SchedulerConfig
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence
from tests.support.runtime.oracle import EOS, PagedMemoryExecutor, run_alone

BLOCK_SIZE = 4
SYSTEM = [*range(1, 13)]  # three blocks
OTHER = [30] * 13


def make_scheduler(
    num_blocks: int = 100, max_num_seqs: int = 8, budget: int = 64, caching: bool = True
) -> Scheduler:
    config = SchedulerConfig(max_num_seqs, budget, enable_prefix_caching=caching)
    return Scheduler(config, BlockManager(num_blocks, BLOCK_SIZE))


def add(
    scheduler: Scheduler,
    name: int,
    prompt: list[int],
    max_output_tokens: int = 8,
    priority: int = 0,
    salt: str | None = None,
) -> None:
    scheduler.add(
        Sequence(
            name, f"r{name}", 0, prompt, SamplingParams(), max_output_tokens, priority, False, salt
        )
    )


def run(scheduler: Scheduler) -> dict[int, int]:
    """One step: how many tokens of whom."""
    batch = scheduler.schedule()
    sampled = [SampledToken(entry.sequence_id, 1) for entry in batch.entries if entry.sampling]
    scheduler.update(batch, sampled)
    scheduler.check_integrity()
    return {entry.sequence_id: len(entry.token_ids) for entry in batch.entries}


def test_one_computes_the_prefix_and_the_others_their_own_tokens() -> None:
    scheduler = make_scheduler()
    for name in range(4):
        add(scheduler, name, [*SYSTEM, 20 + name])
    assert run(scheduler) == {0: 13}
    assert run(scheduler) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_they_wait_only_for_what_they_have_in_common() -> None:
    scheduler = make_scheduler(budget=8)
    add(scheduler, 0, [*SYSTEM, *[20] * 20])
    add(scheduler, 1, [*SYSTEM[:8], 21, 22])
    assert run(scheduler) == {0: 8}
    assert run(scheduler) == {0: 8}  # the budget is his
    for _ in range(2):
        run(scheduler)
    assert run(scheduler) == {0: 1, 1: 2}


def test_a_prefix_in_chunks_is_awaited_to_its_end() -> None:
    scheduler = make_scheduler(budget=5)
    add(scheduler, 0, [*SYSTEM, 20])
    add(scheduler, 1, [*SYSTEM, 21])
    assert [run(scheduler) for _ in range(4)] == [{0: 5}, {0: 5}, {0: 3}, {0: 1, 1: 1}]


def test_a_step_in_flight_is_awaited_too() -> None:
    scheduler = make_scheduler()
    add(scheduler, 0, [*SYSTEM, 20])
    add(scheduler, 1, [*SYSTEM, 21])
    first = scheduler.schedule()
    second = scheduler.schedule()
    assert [entry.sequence_id for entry in second.entries] == [0]
    scheduler.update(first, [SampledToken(0, 1)])
    assert [entry.sequence_id for entry in scheduler.schedule().entries] == [0, 1]


def test_those_who_differ_do_not_wait() -> None:
    scheduler = make_scheduler()
    add(scheduler, 0, [*SYSTEM, 20])
    add(scheduler, 1, [*SYSTEM, 21])
    add(scheduler, 2, OTHER)
    assert run(scheduler) == {0: 13, 2: 13}


@pytest.mark.parametrize(
    ("options", "salt"), [({"caching": False}, None), ({"caching": True}, "other tenant")]
)
def test_nobody_waits_for_what_may_not_be_shared(
    options: dict[str, bool], salt: str | None
) -> None:
    scheduler = make_scheduler(**options)
    add(scheduler, 0, [*SYSTEM, 20])
    add(scheduler, 1, [*SYSTEM, 21], salt=salt)
    assert run(scheduler) == {0: 13, 1: 13}


def test_a_prompt_within_one_block_does_not_wait() -> None:
    scheduler = make_scheduler()
    add(scheduler, 0, SYSTEM[:4])
    add(scheduler, 1, SYSTEM[:4])  # its last token has to run, and with it the block
    assert run(scheduler) == {0: 4, 1: 4}


def test_higher_priority_does_not_wait_for_lower() -> None:
    scheduler = make_scheduler(budget=8)
    add(scheduler, 0, [*SYSTEM, 20], priority=1)
    run(scheduler)
    add(scheduler, 1, [*SYSTEM, 21], priority=0)
    assert run(scheduler) == {0: 5, 1: 3}  # eight tokens were there already, none is waited for


def test_whoever_passes_leaves_a_seat() -> None:
    scheduler = make_scheduler(max_num_seqs=2)
    add(scheduler, 0, [*SYSTEM, 20])
    add(scheduler, 1, [*SYSTEM, 21])
    add(scheduler, 2, OTHER)
    assert run(scheduler) == {0: 13}
    assert run(scheduler) == {0: 1, 1: 1}


def test_whoever_passes_leaves_the_blocks() -> None:
    scheduler = make_scheduler(num_blocks=12)
    add(scheduler, 0, [*SYSTEM, 20])
    add(scheduler, 1, [*SYSTEM, 21])
    add(scheduler, 2, OTHER)
    assert run(scheduler) == {0: 13}  # 12 blocks are less than three times 4 and a spare one
    assert run(scheduler).keys() == {0, 1, 2}


def test_whoever_passes_does_not_bind_the_next_steps() -> None:
    scheduler = make_scheduler(budget=20)
    add(scheduler, 0, [*SYSTEM, 20])
    add(scheduler, 1, [*SYSTEM, 21])
    add(scheduler, 2, [30] * 90)
    assert run(scheduler) == {0: 13}
    assert run(scheduler) == {0: 1, 1: 1, 2: 18}


def test_when_the_first_is_aborted_the_next_one_computes() -> None:
    scheduler = make_scheduler(budget=8)
    for name in range(3):
        add(scheduler, name, [*SYSTEM, 20 + name])
    assert run(scheduler) == {0: 8}
    scheduler.abort([0])
    assert run(scheduler) == {1: 5}  # what was computed is kept
    assert run(scheduler) == {1: 1, 2: 1}


def test_when_the_first_is_preempted_the_others_still_finish() -> None:
    scheduler = make_scheduler(num_blocks=9, budget=16)
    add(scheduler, 0, [9, 9, 9, 9, 9], max_output_tokens=28)
    add(scheduler, 1, [*SYSTEM, 20])
    add(scheduler, 2, [*SYSTEM, 21])
    ran: set[int] = set()
    for _ in range(200):
        if not scheduler.has_work:
            break
        ran |= run(scheduler).keys()
    assert scheduler.num_preemptions > 0
    assert not scheduler.has_work
    assert ran == {0, 1, 2}


def test_a_failed_step_hurts_nobody_who_waited_for_it() -> None:
    def fail_once(batch: AbstractSequence[ScheduledSequence]) -> None:
        if batch[0].sequence_id == 0:
            raise RuntimeError("bad request")

    executor = PagedMemoryExecutor(32, on_execute=fail_once)
    core = EngineCore(
        EngineConfig(model="oracle", max_num_seqs=8, max_num_batched_tokens=64),
        executor,
        clock=lambda: 0.0,
        is_debugging=True,
    )
    params = SamplingParams(max_tokens=3, ignore_eos=True, seed=0)
    for name in range(3):
        core.add(AddRequest(str(name), [*SYSTEM, 20 + name], params))
    outputs = []
    while core.has_work:
        outputs += core.step().outputs
    failed = [o.request_id for o in outputs if o.finish_reason is FinishReason.ERROR]
    assert failed == ["0"]
    assert [o.num_cached_tokens for o in outputs if o.num_cached_tokens] == [12]
    for name in (1, 2):
        tokens = [token for o in outputs if o.request_id == str(name) for token in o.new_token_ids]
        assert tokens == run_alone([*SYSTEM, 20 + name], 3, seed=0, ignore_eos=True)


# No prompt ends with a full block: the last token is always computed, and then its block with it.
tails = st.lists(st.integers(1, 3), min_size=1, max_size=9).filter(lambda tail: len(tail) % 4)
heads = st.sampled_from([[], SYSTEM[:4], SYSTEM[:8], SYSTEM])
prompts = st.builds(lambda head, tail: [*head, *tail], heads, tails)


@settings(max_examples=100, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(prompts, st.integers(1, 6), st.integers(0, 3)), min_size=2, max_size=10
    ),
    max_num_seqs=st.integers(1, 10),
    budget=st.integers(10, 40),
    overlap=st.booleans(),
)
def test_no_block_is_computed_twice(
    arrivals: list[tuple[list[int], int, int]], max_num_seqs: int, budget: int, overlap: bool
) -> None:
    """On a cache that holds all: outputs as ever, and as few prompt tokens as can be."""
    executor = PagedMemoryExecutor(400, max_model_len=64, is_asynchronous=overlap)
    config = EngineConfig(
        model="oracle", max_num_seqs=max_num_seqs, max_num_batched_tokens=max(budget, max_num_seqs)
    )
    core = EngineCore(config, executor, clock=lambda: 0.0, is_debugging=True)
    outputs: dict[str, list[int]] = {str(name): [] for name in range(len(arrivals))}

    def step() -> None:
        for output in core.step().outputs:
            outputs[output.request_id] += output.new_token_ids

    for name, (prompt, max_tokens, steps_before) in enumerate(arrivals):
        for _ in range(steps_before if core.has_work else 0):
            if core.has_work:
                step()
        params = SamplingParams(max_tokens=max_tokens, seed=7)
        core.add(AddRequest(str(name), prompt, params, end_token_ids=(EOS,)))
    while core.has_work:
        step()

    for name, (prompt, max_tokens, _) in enumerate(arrivals):
        assert outputs[str(name)] == run_alone(prompt, max_tokens, seed=7)
    blocks = {
        tuple(prompt[:end])
        for prompt, _, _ in arrivals
        for end in range(BLOCK_SIZE, len(prompt) + 1, BLOCK_SIZE)
    }
    least = BLOCK_SIZE * len(blocks) + sum(len(prompt) % BLOCK_SIZE for prompt, _, _ in arrivals)
    hits = core.stats().prefix_cache_hit_tokens_total
    event(f"hits: {hits > 0}")
    assert sum(len(prompt) for prompt, _, _ in arrivals) - hits <= least
