"""Random arrivals, lengths, aborts and preemptions on a tiny cache, with a memory that tells on mistakes."""

from __future__ import annotations

import dataclasses
import itertools
import random
from dataclasses import dataclass

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.engine.requests.sequence import Sequence
from octavo.engine.speculation.proposal import Proposal
from octavo.engine.speculation.speculation import Speculation
from octavo.outputs import FinishReason
from octavo.sampling_params import SamplingParams
from tests.support.runtime.oracle import EOS, VOCAB_SIZE, PagedMemoryExecutor, run_alone
from tests.support.runtime.window_oracle import WindowedMemoryExecutor, run_alone_within


@dataclass(frozen=True)
class Request:
    prompt: list[int]
    max_tokens: int
    n: int
    priority: int = 0
    tenant: str = ""

    def message(self, name: str) -> AddRequest:
        params = SamplingParams(n=self.n, max_tokens=self.max_tokens, seed=7)
        return AddRequest(
            name,
            self.prompt,
            params,
            priority=self.priority,
            end_token_ids=(EOS,),
            tenant=self.tenant,
        )


# A few beginnings that come again and again, so that prefixes are shared.
prompts = st.builds(
    lambda start, end: [*start, *end],
    st.sampled_from([[], [1] * 5, [1] * 8, [1] * 8 + [2] * 6]),
    st.lists(st.integers(1, 39), min_size=1, max_size=12),
)
requests = st.builds(
    Request,
    prompt=prompts,
    max_tokens=st.integers(1, 20),
    n=st.integers(1, 3),
    tenant=st.sampled_from(["", "", "b", "c"]),
)


def make_executor(
    num_blocks: int, overlap: bool, window: int | None, per_decode: int | None
) -> PagedMemoryExecutor:
    executor = (
        PagedMemoryExecutor(num_blocks, max_model_len=48)
        if window is None
        else WindowedMemoryExecutor(num_blocks, window, max_model_len=48)
    )
    executor.info = dataclasses.replace(
        executor.info,
        is_asynchronous=overlap,
        short_step_tokens=3,
        chunk_tokens_per_decode=per_decode,
    )
    return executor


def run_one_alone(
    window: int | None, prompt: list[int], max_output_tokens: int, seed: int
) -> list[int]:
    if window is None:
        return run_alone(prompt, max_output_tokens, seed)
    return run_alone_within(window, prompt, max_output_tokens, seed)


def make_core(
    executor: PagedMemoryExecutor, max_num_seqs: int, budget: int, caching: bool = True
) -> EngineCore:
    config = EngineConfig(
        model="oracle",
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max(budget, max_num_seqs),
        enable_prefix_caching=caching,
    )
    return EngineCore(config, executor, clock=lambda: 0.0, is_debugging=True)


class Guesses:
    """A proposer that knows what comes, and is wrong now and then."""

    num_kinds = 1
    is_free = True

    def __init__(self, window: int | None, seed: int, most: int) -> None:
        self.window = window
        self.most = most
        self.random = random.Random(seed)  # noqa: S311

    def propose(self, sequence: Sequence) -> Proposal | None:
        known = sequence.tokens(0, sequence.num_tokens)
        assert sequence.sampling.seed is not None
        tokens = run_one_alone(self.window, known, self.most, sequence.sampling.seed)
        wrong = self.random.randrange(2 * self.most)
        if wrong < len(tokens):
            tokens[wrong] = (tokens[wrong] + 1) % VOCAB_SIZE
        return Proposal(tokens[: self.random.randint(1, self.most)])

    def forget(self, sequence_id: int) -> None:
        pass


def speculate(core: EngineCore, window: int | None, seed: int) -> None:
    """From now on; all drafts seem to cost nothing, or where steps may overlap anything, so that some do."""
    overlaps = core.executor_info.is_asynchronous
    core._speculation = Speculation(Guesses(window, seed, 5), 5, overlaps=overlaps)
    times = itertools.accumulate(map(random.Random(seed).expovariate, itertools.repeat(1.0)))  # noqa: S311
    core._stopwatch = (lambda: next(times)) if overlaps else (lambda: 0.0)


def accepted_drafts(core: EngineCore) -> int:
    return 0 if core._speculation is None else sum(core._speculation.counts.num_accepted)


def held_blocks(core: EngineCore, sequence: Sequence) -> list[tuple[int, int]]:
    """(index in its table, block), without those that lie behind the window."""
    window = core._executor.info.sliding_window
    behind = 0 if window is None else sequence.num_computed_tokens - window
    table = list(enumerate(sequence.block_table))
    return [(index, block) for index, block in table if (index + 1) * 4 - 1 > behind]


def filled_slots(core: EngineCore) -> int:
    """Counted from the tables, each block once: the long way round."""
    filled: dict[int, int] = {}
    for sequence in core._scheduler._running:
        for index, block in held_blocks(core, sequence):
            count = min(4, sequence.num_scheduled_tokens - index * 4)
            filled[block] = max(count, filled.get(block, 0))
    return sum(filled.values())


class EngineMachine(RuleBasedStateMachine):
    """Drives an engine with anything that can come in, and compares with each sequence run alone."""

    @initialize(
        num_blocks=st.integers(6, 24),
        max_num_seqs=st.integers(1, 6),
        budget=st.integers(1, 24),
        caching=st.booleans(),
        overlap=st.booleans(),
        window=st.sampled_from([None, 2, 3, 4, 6, 9, 16]),
        guesses=st.none() | st.integers(0, 99),
        per_decode=st.none() | st.integers(1, 4),
    )
    def start(
        self,
        num_blocks: int,
        max_num_seqs: int,
        budget: int,
        caching: bool,
        overlap: bool,
        window: int | None,
        guesses: int | None,
        per_decode: int | None,
    ) -> None:
        self.window = window
        self.executor = make_executor(num_blocks, overlap, window, per_decode)
        self.core = make_core(self.executor, max_num_seqs, budget, caching)
        if guesses is not None:
            speculate(self.core, window, guesses)
        self.overlap = overlap
        self.budget = max(budget, max_num_seqs)
        self.max_num_seqs = max_num_seqs
        self.requests: dict[str, Request] = {}
        self.request_of: dict[int, int] = {}
        self.outputs: dict[tuple[str, int], list[int]] = {}
        self.finished: dict[tuple[str, int], FinishReason] = {}
        self.aborted: set[tuple[str, int]] = set()

    @rule(request=requests)
    def add(self, request: Request) -> None:
        if len(request.prompt) >= self.core.max_model_len:
            return
        name = f"r{len(self.requests)}"
        self.core.add(request.message(name))
        for sequence_id in self.core._requests.sequence_ids([name]):
            self.request_of[sequence_id] = len(self.requests)
        self.requests[name] = request

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), whole=st.booleans())
    def abort(self, data: st.DataObject, whole: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.requests)))
        indexes = range(self.requests[name].n)
        chosen = list(indexes) if whole else [data.draw(st.sampled_from(list(indexes)))]
        self.core.abort([name], None if whole else chosen)
        self.aborted |= {(name, index) for index in chosen} - self.finished.keys()

    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            if not self.core.has_work:
                return
            ran = len(self.executor.batches) - len(self.core._in_flight)
            for output in self.core.step().outputs:
                key = (output.request_id, output.index)
                assert key not in self.aborted
                assert key not in self.finished
                assert output.finish_reason is not FinishReason.ERROR, output.error
                self.outputs.setdefault(key, []).extend(output.new_token_ids)
                if output.finish_reason is not None:
                    self.finished[key] = output.finish_reason
            taken = len(self.executor.batches) - len(self.core._in_flight)
            assert taken == ran + 1, "a step without a result"

    @invariant()
    def every_block_is_free_cached_or_owned(self) -> None:
        self.core.check_integrity()
        stats = self.core.stats()
        running = self.core._scheduler._running
        held = {block for sequence in running for _, block in held_blocks(self.core, sequence)}
        assert stats.kv_blocks_used == len(held)
        assert stats.kv_tokens_held == filled_slots(self.core)
        assert all(
            len(sequence.block_table) == -(-sequence.num_scheduled_tokens // 4)
            for sequence in running
        )

    @invariant()
    def no_step_exceeds_its_limits(self) -> None:
        for batch in self.executor.batches:
            assert sum(count for _, count in batch) <= self.budget
            assert len(batch) <= self.max_num_seqs

    @invariant()
    def nobody_is_overtaken_but_for_a_prefix_that_another_computes(self) -> None:
        names = [name for batch in self.executor.batches for name, _ in batch]
        first_seen = list(dict.fromkeys(self.request_of[name] for name in names))
        asked = list(self.requests.values())
        beginnings = [tuple(request.prompt[:4]) for request in asked]
        for place, request in enumerate(first_seen):
            own = [
                each for each in first_seen[:place] if asked[each].tenant == asked[request].tenant
            ]
            if any(earlier > request for earlier in own):
                # Of whatever tenant: another's turn may have come first, though it asked last.
                assert beginnings[request] in [beginnings[each] for each in first_seen[:place]]

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        limit = 40 * 3 * (len(self.requests) + 1) * 24
        while self.core.has_work:
            limit -= 1
            assert limit > 0, "starved"
            self.step(1)
        stats = self.core.stats()
        event(f"preempted: {stats.preemptions_total > 0}")
        event(f"hits: {stats.prefix_cache_hit_tokens_total > 0}")
        event(f"copies: {self.executor.num_copies > 0}")
        event(f"pending: {self.executor.num_pending > 0}")
        event(f"window: {self.window}")
        event(f"drafts: {accepted_drafts(self.core) > 0}")
        assert (stats.kv_blocks_used, stats.kv_tokens_held) == (0, 0)
        assert not self.core._requests
        for name, request in self.requests.items():
            room = self.core.max_model_len - len(request.prompt)
            for index in range(request.n):
                expected = run_one_alone(
                    self.window, request.prompt, min(request.max_tokens, room), seed=7 + index
                )
                got = self.outputs.get((name, index), [])
                if (name, index) in self.aborted:
                    assert got == expected[: len(got)]
                    continue
                assert got == expected
                reason = FinishReason.STOP if expected[-1] == EOS else FinishReason.LENGTH
                assert self.finished[name, index] is reason


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(requests, min_size=2, max_size=8),
    num_blocks=st.integers(6, 10),
    budget=st.integers(3, 30),
    caching=st.booleans(),
    overlap=st.booleans(),
    window=st.sampled_from([None, None, 3, 8, 13]),
    guesses=st.none() | st.integers(0, 99),
    per_decode=st.none() | st.integers(1, 4),
)
def test_preemption_leaves_every_output_unchanged(
    arrivals: list[Request],
    num_blocks: int,
    budget: int,
    caching: bool,
    overlap: bool,
    window: int | None,
    guesses: int | None,
    per_decode: int | None,
) -> None:
    executor = make_executor(num_blocks, overlap, window, per_decode)
    core = make_core(executor, max_num_seqs=8, budget=budget, caching=caching)
    if guesses is not None:
        speculate(core, window, guesses)
    accepted = [
        (f"r{position}", request)
        for position, request in enumerate(arrivals)
        if len(request.prompt) < core.max_model_len
    ]
    for name, request in accepted:
        core.add(request.message(name))
    outputs: dict[tuple[str, int], list[int]] = {}
    while core.has_work:
        for output in core.step().outputs:
            outputs.setdefault((output.request_id, output.index), []).extend(output.new_token_ids)
    event(f"preemptions: {min(core.stats().preemptions_total, 3)}")
    for name, request in accepted:
        room = core.max_model_len - len(request.prompt)
        for index in range(request.n):
            expected = run_one_alone(
                window, request.prompt, min(request.max_tokens, room), seed=7 + index
            )
            assert outputs[name, index] == expected


def test_the_oracle_does_see_what_the_tests_above_are_about() -> None:
    """Guards them: on such a cache preemption, hits, copies and pending tokens must really happen."""
    executor = PagedMemoryExecutor(
        num_blocks=8, block_size=4, max_model_len=32, is_asynchronous=True
    )
    core = make_core(executor, max_num_seqs=8, budget=30)
    for position in range(6):
        params = SamplingParams(max_tokens=14, ignore_eos=True, seed=0, n=2)
        core.add(AddRequest(f"r{position}", [position // 2 + 1] * 6, params))
    while core.has_work:
        core.step()
    stats = core.stats()
    assert stats.preemptions_total >= 3
    assert stats.prefix_cache_hit_tokens_total >= 4
    assert executor.num_copies >= 3
    assert executor.num_pending >= 50


@pytest.mark.parametrize("overlap", [False, True])
def test_guesses_do_come_true_beside_preemption_and_shared_prefixes(overlap: bool) -> None:
    """Guards the tests above, as the one before: where steps overlap some do and some wait for guesses."""
    executor = PagedMemoryExecutor(
        num_blocks=8, block_size=4, max_model_len=32, is_asynchronous=overlap
    )
    core = make_core(executor, max_num_seqs=8, budget=30)
    speculate(core, None, 0)
    for position in range(6):
        params = SamplingParams(max_tokens=14, ignore_eos=True, seed=0, n=2)
        core.add(AddRequest(f"r{position}", [position // 2 + 1] * 6, params))
    while core.has_work:
        core.step()
    stats = core.stats()
    assert stats.preemptions_total >= 1
    assert stats.prefix_cache_hit_tokens_total >= 4
    assert accepted_drafts(core) >= (5 if overlap else 20)
    assert (executor.num_pending > 5) is overlap
