"""Drives an executor by hand, with block tables that are scattered and out of order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from octavo.config import Device, EngineConfig
from octavo.engine.core import EngineCore
from octavo.sampling.state import SampledToken, SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import Executor, ScheduledSequence, StepBatch
from octavo.worker.start.create import create_executor

GREEDY = SamplingParams(temperature=0.0, max_tokens=None)


def make_executor(folder: Path, **changes: object) -> Executor:
    values: dict[str, object] = {
        "model": str(folder),
        "dtype": "float32",
        "device": Device.CPU,
        "kv_cache_memory_bytes": 8 * 2**20,
        "max_num_seqs": 64,
        "max_num_batched_tokens": 512,
    }
    return create_executor(EngineConfig(**{**values, **changes}))  # type: ignore[arg-type]


def run_to_end(core: EngineCore) -> dict[str, list[int]]:
    """The tokens of each request, of whose steps none fails."""
    outputs: dict[str, list[int]] = {}
    while core.has_work:
        for output in core.step().outputs:
            assert output.error is None
            outputs.setdefault(output.request_id, []).extend(output.new_token_ids)
    return outputs


@dataclass
class Stepper:
    """Hands out blocks in random order, so that no test passes with contiguous blocks alone."""

    executor: Executor
    random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311
    free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = list(range(self.executor.info.num_kv_blocks))
        self.random.shuffle(self.free)

    def sequence(self, prompt: Sequence[int], params: SamplingParams = GREEDY) -> Generation:
        return Generation(self, list(prompt), params)

    def step(self, parts: Sequence[tuple[Generation, int]]) -> list[SampledToken]:
        """Runs the next `count` tokens of each generation in one batch and applies what was sampled."""
        batch = [generation.schedule(count) for generation, count in parts]
        sampled = self.executor.submit(StepBatch(batch)).result()
        by_id = {token.sequence_id: token for token in sampled}
        for generation, count in parts:
            generation.computed += count
            if (token := by_id.get(generation.sequence_id)) is not None:
                generation.output.append(token.token_id)
        return sampled


_next_id = iter(range(10**9))


@dataclass
class Generation:
    stepper: Stepper
    prompt: list[int]
    params: SamplingParams
    output: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    seed: int | None = None
    sequence_id: int = field(default_factory=lambda: next(_next_id))

    def schedule(self, count: int) -> ScheduledSequence:
        tokens = [*self.prompt, *self.output]
        end = self.computed + count
        assert end <= len(tokens)
        while len(self.blocks) * self.stepper.executor.info.block_size < end:
            self.blocks.append(self.stepper.free.pop())
        sampling = None
        if end == len(tokens):
            sampling = SamplingState(self.params, self.seed, self.prompt, list(self.output))
        return ScheduledSequence(
            self.sequence_id, tokens[self.computed : end], self.computed, self.blocks, sampling
        )

    def forget(self) -> None:
        """Preemption: all blocks go back, prompt and output are recomputed later."""
        self.stepper.free.extend(self.blocks)
        self.blocks, self.computed = [], 0
