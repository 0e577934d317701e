"""Overlap, prefix cache and shared prompts on a real model: the tokens must not change."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from octavo.config import Device, EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.sampling_params import SamplingParams
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import Executor, ExecutorInfo, FinishedStep, PendingStep, StepBatch
from octavo.worker.start.create import create_executor
from tests.support.runtime.oracle import PendingTokens


class AsynchronousExecutor:
    """The CPU's executor as the engine sees a GPU's: it knows the pending tokens, the engine does not."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._pending = PendingTokens()
        self.num_copies = 0

    @property
    def info(self) -> ExecutorInfo:
        return dataclasses.replace(self._executor.info, is_asynchronous=True)

    def sleep(self, level: SleepLevel) -> None:
        self._executor.sleep(level)

    def wake_up(self) -> None:
        self._executor.wake_up()

    def submit(self, batch: StepBatch) -> PendingStep:
        self.num_copies += len(batch.block_copies)
        entries = self._pending.resolve(batch)
        step = self._executor.submit(StepBatch(entries, batch.block_copies, batch.released))
        sampled = step.result()
        self._pending.keep(sampled)
        return FinishedStep(sampled)


@pytest.fixture(scope="module")
def executor(tiny_llama: Any) -> Executor:
    return create_executor(make_config(tiny_llama, True))


@pytest.fixture(scope="module")
def expected(tiny_llama: Any) -> list[tuple[list[int], list[int]]]:
    """Prompts that begin alike, and what transformers makes of each alone."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randint(1, 250, (37,), generator=generator).tolist()
    prompts = [start[:length] + [5 + length] for length in (1, 15, 16, 20, 33, 37)]
    return [(prompt, tiny_llama.greedy(prompt, 20)) for prompt in [*prompts, prompts[-1]]]


def make_config(tiny_llama: Any, caching: bool) -> EngineConfig:
    return EngineConfig(
        model=str(tiny_llama.folder),
        dtype="float32",
        device=Device.CPU,
        kv_cache_memory_bytes=11 * 16 * 512,  # 11 blocks: few enough for preemptions
        max_model_len=160,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        enable_prefix_caching=caching,
    )


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("caching", [False, True])
def test_tokens_are_those_of_transformers(
    tiny_llama: Any,
    executor: Executor,
    expected: list[tuple[list[int], list[int]]],
    overlap: bool,
    caching: bool,
) -> None:
    late = AsynchronousExecutor(executor)
    core = EngineCore(
        make_config(tiny_llama, caching), late if overlap else executor, is_debugging=True
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=20, n=2)
    ends = (tiny_llama.reference.config.eos_token_id,)
    outputs: dict[tuple[str, int], list[int]] = {}
    for _ in range(2):  # the second time around much of it is cached
        for position, (prompt, _) in enumerate(expected):
            core.add(AddRequest(str(position), prompt, sampling, end_token_ids=ends))
        outputs.clear()
        while core.has_work:
            for output in core.step().outputs:
                key = (output.request_id, output.index)
                outputs.setdefault(key, []).extend(output.new_token_ids)
        for position, (_, tokens) in enumerate(expected):
            for index in range(2):
                assert outputs[str(position), index] == tokens, (position, index)
    stats = core.stats()
    assert stats.preemptions_total > 0
    assert (stats.prefix_cache_hit_tokens_total > 100) == caching
    if overlap:
        assert late.num_copies > 0
