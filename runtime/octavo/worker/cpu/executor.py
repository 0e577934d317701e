"""Executor for CPUs: runs a step and its sampling at once, in the engine's own thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from octavo.config import EngineConfig
from octavo.errors import DeviceFaultError
from octavo.models.base import CausalLM
from octavo.sampling.host.sampler import Sampler, score
from octavo.sampling.state import SampledToken, SamplingState
from octavo.worker.batch import (
    ExecutorInfo,
    FinishedStep,
    PendingStep,
    ScheduledSequence,
    StepBatch,
)
from octavo.worker.cpu.runner import ModelRunner, Runner
from octavo.worker.cpu.step_inputs import ScoredTokens
from octavo.worker.cpu.warm_up import warm_up
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import PhaseTimer, executor_info


class TorchExecutor:
    """Runs steps on one device; see the `Executor` protocol."""

    def __init__(self, runner: Runner, sampler: Sampler, info: ExecutorInfo) -> None:
        self._runner = runner
        self._sampler = sampler
        self._info = info

    @property
    def info(self) -> ExecutorInfo:
        return self._info

    @torch.inference_mode()
    def submit(self, batch: StepBatch) -> PendingStep:
        try:
            self._sampler.forget(batch.released)
            self._runner.copy_blocks(batch.block_copies)
            return self._step(batch.entries)
        except torch.AcceleratorError as error:
            raise DeviceFaultError(f"{self._info.device} failed: {error}") from error

    def _step(self, batch: Sequence[ScheduledSequence]) -> FinishedStep:
        result = self._runner.run(batch)
        scored = self._score(result.inputs.scored, result.scored)
        if result.logits is None or result.hidden is None:
            return FinishedStep([], scored)
        inputs = result.inputs
        tokens = self._sampler.sample(result.logits, inputs.sequence_ids, inputs.sampling)
        if any(state.is_pooled for state in inputs.sampling):
            tokens = _with_embeddings(tokens, inputs.sampling, result.hidden)
        return FinishedStep(tokens, scored)

    def _score(
        self, tokens: ScoredTokens | None, hidden: torch.Tensor | None
    ) -> list[SampledToken]:
        found: list[SampledToken] = []
        if tokens is None or hidden is None:
            return found
        for part, logits in self._runner.score(hidden):
            found += score(
                logits,
                tokens.sequence_ids[part],
                tokens.token_ids[part],
                tokens.num_best[part],
            )
        return found


def _with_embeddings(
    tokens: list[SampledToken], sampling: Sequence[SamplingState], hidden: torch.Tensor
) -> list[SampledToken]:
    """Last-token pooling: the last hidden state at the sequence's end, scaled to length 1."""
    rows = torch.nn.functional.normalize(hidden.float(), dim=-1).cpu()
    return [
        dataclasses.replace(token, embedding=row.tolist()) if state.is_pooled else token
        for token, state, row in zip(tokens, sampling, rows, strict=True)
    ]


def start_host_executor(
    config: EngineConfig,
    model: CausalLM,
    size: KVCacheSize,
    *,
    device: torch.device,
    dtype: torch.dtype,
    phase: PhaseTimer,
    lead: Callable[[ModelRunner], Runner] = lambda runner: runner,
    lifelines: tuple[int, ...] = (),
) -> TorchExecutor:
    """Phases profile and warmup.

    Args:
        lead: Of the first rank's runner, one that all ranks follow.
        lifelines: See `ExecutorInfo`.
    """
    with phase("profile"):
        runner = lead(host_runner(config, model, size, device=device, dtype=dtype))
    with phase("warmup"):
        warm_up(
            runner,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
        )
    info = executor_info(
        config,
        model.spec,
        size,
        dtype=dtype,
        device=device,
        phases=phase.seconds,
        is_asynchronous=False,
    )
    info = dataclasses.replace(info, lifelines=lifelines)
    return TorchExecutor(runner, Sampler(config.seed), info)


def host_runner(
    config: EngineConfig,
    model: CausalLM,
    size: KVCacheSize,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> ModelRunner:
    """Of one rank's model."""
    return ModelRunner(
        model,
        num_blocks=size.num_blocks,
        max_model_len=size.max_model_len,
        block_size=config.block_size,
        max_num_batched_tokens=config.max_num_batched_tokens,
        device=device,
        dtype=dtype,
        cache_dtype=choose_cache_dtype(config.kv_cache_dtype, dtype),
        num_ranks=config.tensor_parallel_size,
    )
