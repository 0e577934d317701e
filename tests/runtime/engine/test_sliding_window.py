"""Where all layers attend within a window, what lies behind it is given back and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.kv.prefix_hashes import BlockNames
from octavo.engine.messages import AddRequest
from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduler import Scheduler
from octavo.engine.step_limits import SchedulerConfig
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.cpu.runner import ModelRunner
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor
from tests.support.runtime.window_oracle import WindowedMemoryExecutor, run_alone_within

WINDOW = 8
BLOCK_SIZE = 4


def make_scheduler(num_blocks: int = 40, window: int | None = WINDOW, **changes: Any) -> Scheduler:
    config = SchedulerConfig(
        **{
            "max_num_seqs": 8,
            "max_num_batched_tokens": 16,
            "sliding_window": window,
            **changes,
        }
    )
    return Scheduler(config, BlockManager(num_blocks, BLOCK_SIZE))


def make_sequence(name: int, prompt: list[int], max_output_tokens: int = 64) -> Sequence:
    return Sequence(name, f"r{name}", 0, prompt, SamplingParams(), max_output_tokens)


def run(scheduler: Scheduler, steps: int = 1) -> dict[int, int]:
    """The last step's tokens by sequence."""
    shares: dict[int, int] = {}
    for _ in range(steps):
        batch = scheduler.schedule()
        sampled = [SampledToken(entry.sequence_id, 1) for entry in batch.entries if entry.sampling]
        scheduler.update(batch, sampled)
        scheduler.check_integrity()
        shares = {entry.sequence_id: len(entry.token_ids) for entry in batch.entries}
    return shares


def held(scheduler: Scheduler) -> int:
    return scheduler._blocks.num_blocks - scheduler._blocks.num_free_blocks


def test_a_sequence_holds_one_window_however_long_it_gets() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(0, [1] * 5))
    most = 0
    for _ in range(60):
        run(scheduler)
        most = max(most, held(scheduler))
        assert scheduler.num_tokens_held <= most * BLOCK_SIZE
    assert most == WINDOW // BLOCK_SIZE + 1
    scheduler.abort([0])
    assert (held(scheduler), scheduler.num_tokens_held) == (0, 0)


def test_without_a_window_everything_stays() -> None:
    scheduler = make_scheduler(window=None)
    scheduler.add(make_sequence(0, [1] * 5))
    run(scheduler, 60)
    assert held(scheduler) == 16


def test_a_long_prompt_is_admitted_by_what_it_holds_at_once() -> None:
    scheduler = make_scheduler(num_blocks=26)
    for name in range(2):  # 25 blocks each, but never more than 11
        scheduler.add(make_sequence(name, [name + 1] * 100, max_output_tokens=2))
    while scheduler.num_waiting:
        run(scheduler)
    assert scheduler.num_running == 2
    while scheduler.has_work:
        run(scheduler)
    assert scheduler.num_preemptions == 0


def test_what_was_dropped_is_still_found() -> None:
    scheduler = make_scheduler()
    prompt = list(range(1, 31))
    scheduler.add(make_sequence(0, prompt))
    run(scheduler, 20)  # all of the prompt has been dropped
    scheduler.add(make_sequence(1, prompt))
    assert run(scheduler) == {0: 1, 1: 2}
    assert scheduler._blocks.num_dropped(1) == (28 - WINDOW + 1) // BLOCK_SIZE


def test_the_last_window_is_enough_to_go_on_from() -> None:
    scheduler = make_scheduler(num_blocks=9)
    prompt = list(range(1, 31))
    scheduler.add(make_sequence(0, prompt, max_output_tokens=1))
    run(scheduler, 2)
    scheduler.add(make_sequence(1, [40] * 16, max_output_tokens=1))  # evicts what was dropped first
    run(scheduler)
    names = BlockNames()
    names.extend(prompt[:4], BLOCK_SIZE)
    assert scheduler._blocks.find_block(names.between(0, 1)[0]) is None
    scheduler.add(make_sequence(2, prompt, max_output_tokens=1))
    assert run(scheduler) == {2: 2}


@pytest.mark.parametrize("caching", [False, True])
def test_a_completion_that_starts_late_does_not_use_what_its_sibling_dropped(caching: bool) -> None:
    config = EngineConfig(
        model="oracle",
        max_num_seqs=2,
        max_num_batched_tokens=64,
        enable_prefix_caching=caching,
    )
    executor = WindowedMemoryExecutor(32, WINDOW)
    core = EngineCore(config, executor, clock=lambda: 0.0, is_debugging=True)
    prompt = list(range(1, 20))
    first = SamplingParams(max_tokens=20, ignore_eos=True)
    core.add(AddRequest("takes the second seat", [30], first))
    params = SamplingParams(max_tokens=30, ignore_eos=True, seed=3, n=3)
    core.add(AddRequest("r", prompt, params))
    outputs: dict[tuple[str, int], list[int]] = {}
    while core.has_work:
        for output in core.step().outputs:
            key = (output.request_id, output.index)
            outputs.setdefault(key, []).extend(output.new_token_ids)
    for index in range(3):
        expected = run_alone_within(WINDOW, prompt, 30, seed=3 + index, ignore_eos=True)
        assert outputs["r", index] == expected


def poison_free_blocks(core: EngineCore) -> None:
    free = core._blocks._pool._free
    executor: Any = core._executor
    runner: Any = executor._runner if isinstance(executor, TorchExecutor) else executor.runner
    for cache in runner.memory.caches if isinstance(runner, ModelRunner) else runner._caches:
        cache[free] = (
            1e3  # no NaN: masked slots of a sequence's own last block weigh 0, and 0 * NaN is NaN
        )


@pytest.mark.parametrize("path", ["cpu", "gpu"])
@pytest.mark.parametrize("caching", [False, True])
def test_a_model_never_reads_what_was_given_back(path: str, caching: bool, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    reference = make_checkpoint(tmp_path, "mistral", sliding_window=23)
    executor = make_executor(tmp_path) if path == "cpu" else make_gpu_executor(tmp_path)
    assert executor.info.sliding_window == 23
    config = EngineConfig(
        model=str(tmp_path),
        max_num_seqs=4,
        max_num_batched_tokens=40,
        enable_prefix_caching=caching,
    )
    core = EngineCore(config, executor, is_debugging=True)
    prompts = [[3 + (7 * i + length) % 90 for i in range(length)] for length in (1, 60, 100)]
    sampling = SamplingParams(temperature=0.0, max_tokens=50, ignore_eos=True, n=2)
    outputs: dict[tuple[str, int], list[int]] = {}
    for name, prompt in enumerate(prompts):
        core.add(AddRequest(str(name), prompt, sampling))
    most = 0
    while core.has_work:
        poison_free_blocks(core)
        step = core.step()
        most = max(most, step.stats.kv_blocks_used)
        for output in step.outputs:
            key = (output.request_id, output.index)
            outputs.setdefault(key, []).extend(output.new_token_ids)
    for name, prompt in enumerate(prompts):
        generated = reference.generate(
            torch.tensor([prompt]), max_new_tokens=50, do_sample=False, eos_token_id=None
        )
        for index in range(2):
            assert outputs[str(name), index] == generated[0, len(prompt) :].tolist()
    assert most <= 4 * 3 + 3, "four windows, and a chunk; without a window they hold 24"


def test_a_layer_without_a_window_keeps_all_blocks(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    make_checkpoint(
        tmp_path, "qwen3", use_sliding_window=True, sliding_window=23, layer_types=kinds
    )
    assert make_executor(tmp_path).info.sliding_window is None
