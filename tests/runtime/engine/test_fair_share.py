"""Fair share between tenants, by steps and tokens instead of by the clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.engine.fair_share import FairShare
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduler import Scheduler
from octavo.engine.step_limits import SchedulerConfig
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams

LOUD, QUIET = "loud", "quiet"


def make(
    number: int, tenant: str, num_prompt_tokens: int, max_tokens: int = 8, priority: int = 0
) -> Sequence:
    return Sequence(
        sequence_id=number,
        request_id=f"r{number}",
        index=0,
        prompt_token_ids=[number + 1] * num_prompt_tokens,
        params=SamplingParams(temperature=0.0),
        max_output_tokens=max_tokens,
        priority=priority,
        tenant=tenant,
    )


class Runs:
    """A scheduler and what it has done: tokens computed so far are the time."""

    def __init__(self, num_blocks: int = 4000, max_num_seqs: int = 32, budget: int = 256) -> None:
        self.scheduler = Scheduler(
            SchedulerConfig(max_num_seqs, budget, short_step_tokens=64),
            BlockManager(num_blocks, 16),
        )
        self.numbers = itertools.count()
        self.num_steps = 0
        self.num_tokens = 0

    def add(self, tenant: str, num_prompt_tokens: int, **fields: int) -> Sequence:
        sequence = make(next(self.numbers), tenant, num_prompt_tokens, **fields)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> dict[int, int]:
        batch = self.scheduler.schedule()
        sampled = [SampledToken(each.sequence_id, 7) for each in batch.entries if each.sampling]
        self.scheduler.update(batch, sampled)
        self.scheduler.check_integrity()
        self.num_steps += 1
        self.num_tokens += batch.num_tokens
        return {each.sequence_id: len(each.token_ids) for each in batch.entries}

    def until_first_token(self, sequence: Sequence) -> tuple[int, int]:
        """Steps and tokens from now on."""
        steps, tokens = self.num_steps, self.num_tokens
        while not sequence.output_token_ids:
            self.step()
        return self.num_steps - steps, self.num_tokens - tokens


@pytest.mark.parametrize("length", [16, 256, 1000])
@pytest.mark.parametrize("lacking", ["turn", "seats", "blocks"])
@pytest.mark.parametrize("age", [0, 1, 7, 40])
def test_500_long_prompts_of_one_tenant_delay_another_by_no_more_than_threefold(
    length: int, lacking: str, age: int
) -> None:
    sizes = {"turn": {}, "seats": {"max_num_seqs": 4}, "blocks": {"num_blocks": 300}}[lacking]
    alone = Runs(**sizes)
    quiet_steps, _ = alone.until_first_token(alone.add(QUIET, length))
    runs = Runs(**sizes)
    for _ in range(500):
        runs.add(LOUD, 1000, max_tokens=200)
    for _ in range(age):
        runs.step()
    # One after another, as somebody at a chat does.
    for _ in range(3):
        asked = runs.add(QUIET, length, max_tokens=4)
        steps, tokens = runs.until_first_token(asked)
        assert steps <= 3 * quiet_steps
        assert tokens <= 3 * quiet_steps * 256
        while not asked.is_finished:
            runs.step()


def test_one_tenant_is_first_come_first_served() -> None:
    share = FairShare()
    turns = []
    for number in range(20):
        sequence = make(number, LOUD, 1 + 7 * number % 5)
        share.enter(sequence)
        if number % 3 == 0:
            share.begin(sequence)
            share.leave(sequence)
        turns.append(sequence.order)
    assert turns == sorted(turns)


@given(
    costs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), min_size=1, max_size=60)
)
@settings(deadline=None)
def test_what_backlogged_tenants_were_served_differs_by_no_more_than_two_of_their_requests(
    costs: list[tuple[str, int]],
) -> None:
    """The bound of start-time fair queueing, over every interval in which both had something waiting."""
    share = FairShare()
    waiting = [make(number, tenant, cost) for number, (tenant, cost) in enumerate(costs)]
    for sequence in waiting:
        share.enter(sequence)
    most = {name: max((c for t, c in costs if t == name), default=0) for name in "abc"}
    served = dict.fromkeys("abc", 0)
    waiting.sort(key=lambda each: each.order)
    for position, sequence in enumerate(waiting):
        share.begin(sequence)
        served[sequence.tenant] += sequence.num_prompt_tokens
        left = {each.tenant for each in waiting[position + 1 :]}
        for one, other in itertools.combinations(sorted(left), 2):
            assert abs(served[one] - served[other]) <= most[one] + most[other]


def test_who_was_idle_has_saved_nothing_up() -> None:
    runs = Runs(max_num_seqs=1)
    runs.add(QUIET, 16, max_tokens=1)
    runs.step()
    for _ in range(8):
        runs.until_first_token(runs.add(LOUD, 200, max_tokens=1))
    both = [runs.add(LOUD, 16, max_tokens=1) for _ in range(40)]
    both += [runs.add(QUIET, 16, max_tokens=1) for _ in range(40)]
    first = [each.tenant for each in sorted(both, key=lambda each: each.order)[:40]]
    # No more ahead than by the one that was served last, of 200 tokens.
    assert 12 <= first.count(LOUD) <= 20


def test_a_better_priority_never_makes_room_and_nobody_thrashes() -> None:
    runs = Runs(max_num_seqs=4)
    urgent = [runs.add(LOUD, 64, max_tokens=500, priority=-1) for _ in range(4)]
    runs.step()
    runs.add(QUIET, 16)
    for _ in range(20):
        assert runs.step() == {each.sequence_id: 1 for each in urgent}
    assert runs.scheduler.num_preemptions == 0

    runs = Runs(max_num_seqs=4)
    for _ in range(6):
        runs.add(LOUD, 64, max_tokens=500)
    runs.step()
    for _ in range(6):
        runs.add(QUIET, 64, max_tokens=500)
    for _ in range(60):
        runs.step()
    tenants = [each.tenant for each in runs.scheduler._running]
    assert (tenants.count(LOUD), tenants.count(QUIET)) == (2, 2)
    assert runs.scheduler.num_preemptions == 2


def test_a_prompt_alone_has_the_whole_step() -> None:
    runs = Runs()
    first = runs.add(LOUD, 1000)
    assert runs.step() == {first.sequence_id: 256}
    second = runs.add(QUIET, 1000)
    assert runs.step() == {second.sequence_id: 256}  # it had nothing so far
    assert runs.step() == {first.sequence_id: 128, second.sequence_id: 128}


def test_who_has_nothing_begins_in_a_step_of_its_own_and_the_others_go_on_in_the_next() -> None:
    runs = Runs()
    loud = [runs.add(LOUD, 100, max_tokens=50) for _ in range(20)]
    for _ in range(5):
        runs.step()
    decoding = {each.sequence_id for each in loud if each.output_token_ids}
    assert decoding
    asked = runs.add(QUIET, 16, max_tokens=4)
    another = runs.add("third", 16, max_tokens=4)
    assert runs.step() == {asked.sequence_id: 16}
    assert decoding | {asked.sequence_id} <= runs.step().keys()
    while not another.output_token_ids:
        sizes = runs.step()
        assert another.sequence_id in sizes or decoding & sizes.keys()


def test_a_guest_waits_for_those_of_a_better_priority() -> None:
    runs = Runs()
    urgent = [runs.add(LOUD, 100, max_tokens=50, priority=-1) for _ in range(20)]
    for _ in range(5):
        runs.step()
    runs.add(QUIET, 16)
    assert urgent[0].sequence_id in runs.step()


def test_steps_of_one_tenant_s_backlog_are_short_while_others_come_now_and_then() -> None:
    runs = Runs()
    for _ in range(8):
        runs.add(LOUD, 1000, max_tokens=1)
    assert sum(runs.step().values()) == 256
    asked = runs.add(QUIET, 16, max_tokens=1)
    while not asked.is_finished:
        runs.step()
    assert sum(runs.step().values()) == 64
    while runs.scheduler.num_waiting:
        runs.step()
    assert sum(runs.step().values()) > 64  # nobody waits any more


def test_steps_are_long_again_when_nobody_else_has_come_for_a_million_tokens() -> None:
    share = FairShare()
    assert not share.has_several_lately
    for number, tenant in enumerate([LOUD, QUIET, LOUD]):
        share.enter(make(number, tenant, 100))
        assert share.has_several_lately == (number > 0)
    for number in range(3, 70):
        one = make(number, LOUD, 2**14)
        share.enter(one)
        share.begin(one)
        share.leave(one)
    assert not share.has_several_lately
