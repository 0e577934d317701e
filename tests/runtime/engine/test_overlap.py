"""Steps that are submitted before the result of the one before is known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.errors import DeviceFaultError
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import PENDING_TOKEN, PendingStep, ScheduledSequence, StepBatch
from tests.support.runtime.biased_processor import BiasedParams, registered
from tests.support.runtime.oracle import EOS, PagedMemoryExecutor, run_alone

RESUMED = [2, 2, 2, 2, 2, 1, 2, 1, 2, 2, 1, 2, 1, 2]


@dataclass
class LateStep:
    """A step that fails, if it fails, when its result is asked for."""

    executor: FailingExecutor
    step: PendingStep
    error: Exception | None

    def result(self) -> list[SampledToken]:
        self.executor.num_untaken -= 1
        if self.error is not None:
            raise self.error
        return self.step.result()

    @property
    def scored(self) -> list[SampledToken]:
        return self.step.scored

    @property
    def drafter_seconds(self) -> float:
        return self.step.drafter_seconds


class FailingExecutor(PagedMemoryExecutor):
    """Asynchronous; fails in the steps that it is told."""

    def __init__(
        self,
        fail_submits: Sequence[int] = (),
        fail_results: Sequence[int] = (),
        num_blocks: int = 64,
        error: Exception | None = None,
    ) -> None:
        super().__init__(num_blocks, max_model_len=48, is_asynchronous=True)
        self.fail_submits, self.fail_results = set(fail_submits), set(fail_results)
        self.error = error or RuntimeError("no")
        self.num_submits = 0
        self.num_untaken = 0
        self.most_untaken = 0
        self.released: list[int] = []
        self.members: list[set[int]] = []  # sequence ids of each submitted step

    def submit(self, batch: StepBatch) -> PendingStep:
        number = self.num_submits
        self.num_submits += 1
        self.members.append({entry.sequence_id for entry in batch.entries})
        if number in self.fail_submits:
            raise self.error
        self.released += batch.released
        step = super().submit(batch)
        self.num_untaken += 1
        self.most_untaken = max(self.most_untaken, self.num_untaken)
        return LateStep(self, step, self.error if number in self.fail_results else None)


def make_core(executor: PagedMemoryExecutor, max_num_seqs: int = 4) -> EngineCore:
    config = EngineConfig(model="oracle", max_num_seqs=max_num_seqs, max_num_batched_tokens=32)
    return EngineCore(config, executor, clock=lambda: 0.0, is_debugging=True)


def make_request(name: str, prompt: Sequence[int], max_tokens: int, **options: bool) -> AddRequest:
    params = SamplingParams(max_tokens=max_tokens, seed=0, **options)  # type: ignore[arg-type]
    return AddRequest(name, list(prompt), params, end_token_ids=(EOS,))


def run_to_end(core: EngineCore) -> dict[str, list[TokenOutput]]:
    outputs: dict[str, list[TokenOutput]] = {}
    while core.has_work:
        for output in core.step().outputs:
            outputs.setdefault(output.request_id, []).append(output)
        core.check_integrity()
    return outputs


def tokens(outputs: Sequence[TokenOutput]) -> list[int]:
    return [token for output in outputs for token in output.new_token_ids]


def test_the_next_step_is_submitted_before_the_result_is_taken_and_no_more() -> None:
    executor = FailingExecutor()
    core = make_core(executor)
    core.add(make_request("r", [1, 2, 3], 9, ignore_eos=True))
    outputs = run_to_end(core)["r"]
    assert tokens(outputs) == run_alone([1, 2, 3], 9, seed=0, ignore_eos=True)
    assert executor.most_untaken == 2
    assert executor.num_pending == 8  # all decodes


def test_an_end_by_length_is_foreseen() -> None:
    executor = FailingExecutor()
    core = make_core(executor)
    core.add(make_request("r", [1, 2, 3], 5, ignore_eos=True))
    run_to_end(core)
    assert executor.num_submits == 5


def test_an_end_by_token_drops_the_token_of_the_step_in_flight() -> None:
    prompt = next(
        [first, second]
        for first in range(1, 40)
        for second in range(1, 40)
        if 2 <= len(run_alone([first, second], 20, seed=0)) < 10
    )
    expected = run_alone(prompt, 20, seed=0)
    assert expected[-1] == EOS
    executor = FailingExecutor()
    core = make_core(executor)
    core.add(make_request("r", prompt, 20))
    outputs = run_to_end(core)["r"]
    assert tokens(outputs) == expected
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert executor.num_submits == len(expected) + 1
    assert core.stats().generation_tokens_total == len(expected)


def test_the_engine_has_work_until_the_last_step_in_flight_is_taken() -> None:
    executor = FailingExecutor()
    core = make_core(executor)
    core.add(make_request("r", [1, 2, 3], 9, ignore_eos=True))
    core.step()
    core.abort(["r"])
    assert core.stats().kv_blocks_used == 0
    had_work = core.has_work
    assert core.step().outputs == []
    assert (had_work, core.has_work) == (True, False)
    assert executor.num_untaken == 0


@pytest.mark.parametrize("where", ["submit", "result"])
def test_a_failing_step_ends_the_sequences_of_its_batch_alone(where: str) -> None:
    executor = FailingExecutor(
        fail_submits=[2] if where == "submit" else [], fail_results=[2] if where == "result" else []
    )
    core = make_core(executor, max_num_seqs=1)
    core.add(make_request("bad", [1, 2, 3], 9, ignore_eos=True))
    core.add(make_request("good", [4, 5, 6], 9, ignore_eos=True))
    outputs = run_to_end(core)
    assert outputs["bad"][-1].finish_reason is FinishReason.ERROR
    assert outputs["bad"][-1].error == "The step that ran this request failed: RuntimeError."
    expected = run_alone([1, 2, 3], 9, seed=0, ignore_eos=True)
    assert tokens(outputs["bad"]) == expected[: len(outputs["bad"]) - 1]
    assert tokens(outputs["good"]) == run_alone([4, 5, 6], 9, seed=0, ignore_eos=True)


def test_what_a_failed_batch_should_have_released_is_told_again() -> None:
    executor = FailingExecutor(fail_submits=[1])
    core = make_core(executor, max_num_seqs=1)
    for name in ("a", "b", "c"):
        core.add(make_request(name, [1, 2, 3], 1))
    run_to_end(core)
    assert executor.members == [{0}, {1}, {2}]
    assert executor.released == [0, 1]


def test_a_lost_device_ends_the_engine_when_the_result_is_taken() -> None:
    executor = FailingExecutor(fail_results=[1], error=DeviceFaultError("an illegal access"))
    core = make_core(executor)
    core.add(make_request("r", [1, 2, 3], 9, ignore_eos=True))
    with pytest.raises(DeviceFaultError):
        run_to_end(core)


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=14), min_size=1, max_size=6),
    failing=st.sets(st.integers(0, 25), max_size=3),
    at_submit=st.booleans(),
    num_blocks=st.integers(12, 20),
)
def test_whoever_was_in_no_failing_step_gets_all_its_tokens(
    prompts: list[list[int]], failing: set[int], at_submit: bool, num_blocks: int
) -> None:
    executor = FailingExecutor(
        fail_submits=sorted(failing) if at_submit else [],
        fail_results=[] if at_submit else sorted(failing),
        num_blocks=num_blocks,
    )
    core = make_core(executor)
    names = {}
    for position, prompt in enumerate(prompts):
        core.add(make_request(f"r{position}", prompt, 8))
        names[f"r{position}"] = core._requests.sequence_ids([f"r{position}"])[0]
    outputs = run_to_end(core)
    hit = set().union(*(executor.members[i] for i in failing if i < len(executor.members)))
    event(f"failed: {len(hit)}")
    for name, prompt in zip(names, prompts, strict=True):
        expected = run_alone(prompt, 8, seed=0)
        got = tokens(outputs[name])
        if names[name] in hit:
            assert got == expected[: len(got)]
        else:
            assert got == expected
            assert outputs[name][-1].finish_reason is not FinishReason.ERROR
    assert core.stats().kv_blocks_used == 0
    assert executor.num_untaken == 0


def test_who_waits_for_its_token_gets_every_second_step_beside_others_and_each_alone() -> None:
    waiting = BiasedParams(max_tokens=6, seed=0, ignore_eos=True, follows_last=True)
    with registered():
        executor = FailingExecutor()
        core = make_core(executor)
        core.add(AddRequest("waits", [1, 2, 3], waiting))
        core.add(make_request("goes on", [4, 5, 6], 12, ignore_eos=True))
        outputs = run_to_end(core)
        assert tokens(outputs["waits"]) == run_alone([1, 2, 3], 6, seed=0, ignore_eos=True)
        assert executor.members == [{0, 1}, {1}] * 5 + [{0, 1}, {1}]
        assert executor.most_untaken == 2
        alone = FailingExecutor()
        core = make_core(alone)
        core.add(AddRequest("waits", [1, 2, 3], waiting))
        run_to_end(core)
        assert alone.num_submits == 6
        assert alone.most_untaken == 1


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(
        st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=14), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    num_blocks=st.integers(12, 20),
)
@example(  # the last is preempted, and comes back by one token
    prompts=[([1] * 5, False), (RESUMED, False), (RESUMED, False)], num_blocks=12
)
def test_no_sequence_that_waits_is_scheduled_behind_its_token_and_all_others_are(
    prompts: list[tuple[list[int], bool]], num_blocks: int
) -> None:
    steps: list[dict[int, Sequence[int]]] = []

    def record(entries: Sequence[ScheduledSequence]) -> None:
        steps.append({entry.sequence_id: entry.token_ids for entry in entries})

    executor = PagedMemoryExecutor(
        num_blocks, max_model_len=48, on_execute=record, is_asynchronous=True
    )
    core = make_core(executor)
    with registered():
        for number, (prompt, waits) in enumerate(prompts):
            kind = BiasedParams if waits else SamplingParams
            options = {"follows_last": True} if waits else {}
            params = kind(max_tokens=9, seed=0, **options)  # type: ignore[arg-type]
            core.add(AddRequest(str(number), prompt, params, end_token_ids=(EOS,)))
        outputs = run_to_end(core)
    preemptions = core.stats().preemptions_total
    event(f"preemptions: {preemptions > 0}")
    resumed = 0  # by one token alone: the pages of all others were still held when it came back
    for number, (prompt, waits) in enumerate(prompts):
        assert tokens(outputs[str(number)]) == run_alone(prompt, 9, seed=0)
        shares = [step.get(number, ()) for step in steps]
        for before, share in itertools.pairwise(shares):
            if waits:
                assert PENDING_TOKEN not in share
            elif share and before and len(share) == 1 and before[-1] == PENDING_TOKEN:
                resumed += share[0] != PENDING_TOKEN
    assert resumed <= preemptions  # each other one was left out of a step
    assert core.stats().kv_blocks_used == 0
