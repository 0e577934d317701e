"""Executor for CPUs: runs a step and its sampling at once, in the engine's own thread."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from octavo.config import EngineConfig
from octavo.errors import DeviceFaultError, InvalidConfigurationError
from octavo.loading.adapter import read_adapter
from octavo.loading.pooling import Pooling, normalises, read_whole_pooling
from octavo.models.adapters import ModelAdapters
from octavo.models.base import CausalLM
from octavo.models.spec import ModelSpec, Task
from octavo.sampling.host.sampler import Sampler, score
from octavo.sampling.host.verify import verify
from octavo.sampling.state import SampledToken, SamplingState
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import (
    ExecutorInfo,
    FinishedStep,
    Heartbeat,
    PendingStep,
    StepBatch,
)
from octavo.worker.cpu.drafter import Drafter, MakeDrafter
from octavo.worker.cpu.followers import Followers, Nobody
from octavo.worker.cpu.masks_ahead import MasksAhead
from octavo.worker.cpu.runner import ModelRunner, Runner, StepResult
from octavo.worker.cpu.step_inputs import ScoredTokens
from octavo.worker.cpu.step_memory import StepMemory
from octavo.worker.cpu.warm_up import warm_up
from octavo.worker.loaded import Loaded
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import PhaseTimer, executor_info
from octavo.worker.wakeable import Wakeable


@dataclass(frozen=True, slots=True)
class GuidedRunner:
    """A model's runner, and who proposes where the engine does not."""

    runner: Runner
    drafter: Drafter | None


HostLoaded = Wakeable[Loaded[MakeDrafter], GuidedRunner]


class TorchExecutor:
    """Runs steps on one device; see the `Executor` and `HoldsAdapters` protocols.

    Args:
        normalises: Embeddings are scaled to length 1.
        adapters: Of the model; None: it takes none.
        masks: Works out what grammars let through.
    """

    def __init__(
        self,
        loaded: HostLoaded,
        sampler: Sampler,
        info: ExecutorInfo,
        followers: Followers | None = None,
        adapters: ModelAdapters | None = None,
        *,
        masks: MasksAhead,
        normalises: bool = True,
    ) -> None:
        self._normalises = normalises
        self._adapters = adapters
        self._loaded = loaded
        self._sampler = sampler
        self._info = info
        self._followers = Nobody() if followers is None else followers
        self._masks = masks

    @property
    def info(self) -> ExecutorInfo:
        return self._info

    @torch.inference_mode()
    def submit(self, batch: StepBatch) -> PendingStep:
        try:
            self._sampler.forget(batch.released)
            self._runner.copy_blocks(batch.block_copies)
            return self._step(batch)
        except torch.AcceleratorError as error:
            raise DeviceFaultError(f"{self._info.device} failed: {error}") from error

    @torch.inference_mode()
    def add_adapter(self, adapter_id: int, folder: str) -> None:
        if self._adapters is None:
            return
        self._adapters.add(adapter_id, read_adapter(Path(folder)))
        try:
            self._followers.add_adapter(adapter_id, folder)
        except InvalidConfigurationError:
            self._adapters.remove(adapter_id)
            raise

    def remove_adapter(self, adapter_id: int) -> None:
        if self._adapters is not None:
            self._adapters.remove(adapter_id)
            self._followers.remove_adapter(adapter_id)

    def sleep(self, level: SleepLevel) -> None:
        self._followers.sleep(level)
        self._loaded.sleep(level)

    def wake_up(self) -> None:
        self._followers.wake_up()
        self._loaded.wake_up()
        self._followers.wait_until_awake()

    @property
    def _runner(self) -> Runner:
        return self._loaded.runner.runner

    def _step(self, batch: StepBatch) -> FinishedStep:
        drafter = self._loaded.runner.drafter
        if drafter is not None and batch.is_followed:
            return self._followed(batch, drafter)
        if drafter is not None:
            drafter.rest()
        with self._masks.beside(batch.entries):
            result = self._runner.run(batch.entries)
        return self._sampled(result)

    def _followed(self, batch: StepBatch, drafter: Drafter) -> FinishedStep:
        started = time.thread_time()
        drafter.begin(batch.released, batch.block_copies)
        entries = drafter.propose(batch.entries)
        proposed = time.thread_time()
        with self._masks.beside(entries):
            result = self._runner.run(entries)
            ran = time.thread_time()
            drafter.follow(entries, result.inputs)
            used = time.thread_time() - ran + proposed - started
        return dataclasses.replace(self._sampled(result), drafter_seconds=used)

    def _sampled(self, result: StepResult) -> FinishedStep:
        scored = self._score(result.inputs.scored, result.scored)
        if result.logits is None or result.hidden is None:
            return FinishedStep([], scored)
        inputs = result.inputs
        rows = result.logits, inputs.sequence_ids, inputs.sampling
        if any(inputs.drafts):
            return FinishedStep(verify(self._sampler, *rows, inputs.drafts), scored)
        tokens = self._sampler.sample(*rows)
        if any(state.is_pooled for state in inputs.sampling):
            tokens = _with_embeddings(tokens, inputs.sampling, result.hidden, self._normalises)
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
    tokens: list[SampledToken],
    sampling: Sequence[SamplingState],
    hidden: torch.Tensor,
    is_normalised: bool,
) -> list[SampledToken]:
    """What is pooled of a sequence, by default its last hidden state, scaled to length 1."""
    rows = hidden.float()
    if is_normalised:
        rows = torch.nn.functional.normalize(rows, dim=-1)
    rows = rows.cpu()
    return [
        msgspec.structs.replace(token, embedding=row.tolist()) if state.is_pooled else token
        for token, state, row in zip(tokens, sampling, rows, strict=True)
    ]


def start_host_executor(
    config: EngineConfig,
    read: Loaded[MakeDrafter],
    size: KVCacheSize,
    *,
    device: torch.device,
    dtype: torch.dtype,
    phase: PhaseTimer,
    reload: Callable[[], Loaded[MakeDrafter]],
    lead: Callable[[ModelRunner], Runner] = lambda runner: runner,
    followers: Followers | None = None,
    lifelines: tuple[int, ...] = (),
    heartbeat: Heartbeat | None = None,
    adapters: ModelAdapters | None = None,
) -> TorchExecutor:
    """Phases profile and warmup.

    Args:
        reload: Reads the same anew.
        lead: Of the first rank's runner, one that all ranks follow.
        lifelines, heartbeat: See `ExecutorInfo`.
        adapters: See `TorchExecutor`.
    """

    spec = read.model.spec
    pooling = host_pooling(config, spec)

    def make(of: Loaded[MakeDrafter]) -> GuidedRunner:
        runner = host_runner(config, of.model, size, device=device, dtype=dtype, pooling=pooling)
        return GuidedRunner(lead(runner), None if of.drafting is None else of.drafting())

    with phase("profile"):
        loaded = Wakeable(read, make, reload)
    with phase("warmup"):
        warm_up(
            loaded.runner.runner,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
        )
    info = executor_info(
        config,
        spec,
        size,
        dtype=dtype,
        device=device,
        phases=phase.seconds,
        is_asynchronous=False,
    )
    info = dataclasses.replace(
        info,
        lifelines=lifelines,
        heartbeat=heartbeat,
        runs_whole_prompts=pooling is not None,
    )
    return TorchExecutor(
        loaded,
        Sampler(config.seed),
        info,
        followers,
        adapters,
        masks=MasksAhead.of(info.vocab_size, len(config.local_ranks)),
        normalises=normalises(Path(config.model)),
    )


def host_pooling(config: EngineConfig, spec: ModelSpec) -> Pooling | None:
    """Of a decoder without a head that takes more of a prompt than its last token."""
    if spec.task is not Task.EMBED:
        return None
    return read_whole_pooling(Path(config.model))


def host_runner(
    config: EngineConfig,
    model: CausalLM,
    size: KVCacheSize,
    *,
    device: torch.device,
    dtype: torch.dtype,
    pooling: Pooling | None = None,
) -> ModelRunner:
    """Of one rank's model."""
    budget = config.max_num_batched_tokens
    if pooling is not None:  # prompts are whole
        budget = max(budget, size.max_model_len)
    memory = StepMemory(
        model.spec.on_rank(config.tensor_parallel_size),
        num_blocks=size.num_blocks,
        max_model_len=size.max_model_len,
        block_size=config.block_size,
        max_tokens=budget,
        device=device,
        dtype=dtype,
        cache_dtype=choose_cache_dtype(config.kv_cache_dtype, dtype),
    )
    mode = None if pooling is None else pooling.mode
    return ModelRunner(model, memory, max_model_len=size.max_model_len, pooling=mode)
