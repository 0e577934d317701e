from __future__ import annotations

from collections.abc import Sequence

import pytest

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.errors import ContextLengthExceededError, DeviceFaultError, InvalidParameterError
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence
from tests.support.runtime.oracle import PagedMemoryExecutor, run_alone


def make_core(executor: PagedMemoryExecutor | None = None, max_num_seqs: int = 4) -> EngineCore:
    config = EngineConfig(model="oracle", max_num_seqs=max_num_seqs, max_num_batched_tokens=32)
    return EngineCore(config, executor or PagedMemoryExecutor(32), clock=lambda: 1000.0)


def make_request(
    name: str = "r", prompt: Sequence[int] = (1, 2, 3), **sampling: object
) -> AddRequest:
    params = SamplingParams(**{"max_tokens": 8, "ignore_eos": True, **sampling})  # type: ignore[arg-type]
    return AddRequest(name, list(prompt), params)


def run_to_end(core: EngineCore) -> list[TokenOutput]:
    outputs = []
    while core.has_work:
        outputs += core.step().outputs
    return outputs


def test_n_completions_draw_from_seeds_of_their_own() -> None:
    core = make_core()
    core.add(make_request(n=3, seed=2**63 - 2, temperature=1.0))
    outputs = run_to_end(core)
    for index, seed in enumerate([2**63 - 2, 2**63 - 1, -(2**63)]):
        tokens = [output.new_token_ids[0] for output in outputs if output.index == index]
        assert tokens == run_alone([1, 2, 3], 8, seed=seed, ignore_eos=True)


def test_the_context_limits_the_output() -> None:
    core = make_core(PagedMemoryExecutor(32, max_model_len=6))
    core.add(make_request(max_tokens=None))
    outputs = run_to_end(core)
    assert len(outputs) == 3
    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_a_cache_smaller_than_the_context_limits_it() -> None:
    core = make_core(PagedMemoryExecutor(num_blocks=2, block_size=4, max_model_len=64))
    assert core.info.max_model_len == 8
    core.add(make_request(max_tokens=50))
    assert len(run_to_end(core)) == 5


def test_the_first_output_alone_says_when_it_was_scheduled() -> None:
    core = make_core()
    core.add(make_request())
    times = [output.first_scheduled_time for output in run_to_end(core)]
    assert times == [1000.0] + [None] * 7


def test_tokens_are_counted_once_in_spite_of_preemption() -> None:
    executor = PagedMemoryExecutor(num_blocks=8, max_model_len=32)
    core = make_core(executor)
    for position in range(4):
        core.add(make_request(f"r{position}", [position + 1] * 5, max_tokens=14))
    run_to_end(core)
    stats = core.stats()
    assert stats.preemptions_total > 0
    assert (stats.prompt_tokens_total, stats.generation_tokens_total) == (20, 56)
    assert stats.step == len(executor.batches)


def test_a_prompt_of_n_completions_counts_once() -> None:
    core = make_core()
    core.add(make_request(n=3))
    run_to_end(core)
    assert core.stats().prompt_tokens_total == 3


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "The prompt has no tokens"),
        ([1, 40], r"token id 40, at place 1 of 2; the model's ids lie in \[0, 39\]"),
        ([-1], "token id -1, at place 0 of 1"),
    ],
)
def test_a_prompt_that_the_model_cannot_read_is_refused(prompt: list[int], message: str) -> None:
    core = make_core()
    with pytest.raises(InvalidParameterError, match=message):
        core.add(make_request(prompt=prompt))
    assert not core.has_work


def test_a_prompt_that_can_never_fit_is_refused() -> None:
    core = make_core(PagedMemoryExecutor(num_blocks=2, block_size=4))
    with pytest.raises(ContextLengthExceededError, match="has 8 tokens, but the context holds 8"):
        core.add(make_request(prompt=[1] * 8))


def test_a_request_id_is_free_again_after_its_end() -> None:
    core = make_core()
    core.add(make_request())
    with pytest.raises(InvalidParameterError, match="'r' is running already"):
        core.add(make_request())
    run_to_end(core)
    core.add(make_request())


def test_abort_frees_the_blocks_and_leaves_the_others_alone() -> None:
    core = make_core()
    core.add(make_request("a", n=2))
    core.add(make_request("b"))
    core.step()
    core.step()  # the second completion starts when the first has the prompt
    used = core.stats().kv_blocks_used
    core.abort(["a"], [1])
    assert core.stats().kv_blocks_used == used - 1
    core.abort(["a", "unknown"])
    assert core.stats().num_running == 1
    assert {output.request_id for output in run_to_end(core)} == {"b"}


def test_a_failing_step_fails_its_batch_alone() -> None:
    def fail_on_seven(batch: Sequence[ScheduledSequence]) -> None:
        if any(7 in entry.token_ids for entry in batch):
            raise RuntimeError("secret detail of the device")

    core = make_core(PagedMemoryExecutor(32, on_execute=fail_on_seven), max_num_seqs=1)
    core.add(make_request("bad", [7], n=2))
    core.add(make_request("good", [1, 2, 3], max_tokens=1))
    failed = core.step().outputs + core.step().outputs
    assert [(output.request_id, output.index, output.finish_reason) for output in failed] == [
        ("bad", 0, FinishReason.ERROR),
        ("bad", 1, FinishReason.ERROR),
    ]
    assert failed[0].error == "The step that ran this request failed: RuntimeError."
    assert core.stats().kv_blocks_used == 0
    assert [output.request_id for output in run_to_end(core)] == ["good"]


def test_less_than_four_percent_of_the_allocated_cache_lies_idle() -> None:
    """Mixed load of 100 to 900 tokens a prompt, measured over all steps, preemptions included."""

    class ConstantExecutor(PagedMemoryExecutor):
        def execute(self, batch: Sequence[ScheduledSequence]) -> list[SampledToken]:
            return [SampledToken(entry.sequence_id, 1) for entry in batch if entry.sampling]

    executor = ConstantExecutor(num_blocks=600, block_size=16, max_model_len=2048)
    config = EngineConfig(model="constant", max_num_seqs=32, max_num_batched_tokens=256)
    core = EngineCore(config, executor)
    for position in range(60):
        prompt = [position % 39 + 1, position // 39 + 1] * (50 + position * 331 % 400)
        core.add(make_request(f"r{position}", prompt, max_tokens=20 + position * 173 % 300))
    allocated = held = 0
    while core.has_work:
        core.step()
        stats = core.stats()
        allocated += stats.kv_blocks_used * 16
        held += stats.kv_tokens_held
    assert core.stats().preemptions_total > 0
    assert 0 < 1 - held / allocated < 0.04


def test_a_debugging_engine_checks_its_accounts_when_an_abort_leaves_it_idle() -> None:
    config = EngineConfig(model="oracle", max_num_seqs=4, max_num_batched_tokens=32)
    core = EngineCore(config, PagedMemoryExecutor(32), is_debugging=True)
    core.add(make_request())
    core.step()
    core._blocks.allocate(99, 4)
    with pytest.raises(RuntimeError, match=r"\[99\] own blocks and do not run"):
        core.abort(["r"])


def test_a_lost_device_ends_the_engine() -> None:
    def lose(batch: Sequence[ScheduledSequence]) -> None:
        raise DeviceFaultError("CUDA error: an illegal memory access was encountered")

    core = make_core(PagedMemoryExecutor(32, on_execute=lose))
    core.add(make_request())
    with pytest.raises(DeviceFaultError):
        core.step()
