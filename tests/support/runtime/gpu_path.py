"""Execution path of a GPU on CPU tensors: the same runner, with kernels that run there.

Recording decode steps is replaced by running them: padding and fixed buffers stay, CUDA does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from octavo.config import EngineConfig, ModelImplementation, Quantization
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference
from octavo.loading import Placement, SafetensorsWeights, WeightSource
from octavo.loading.pooling import normalises
from octavo.models.building import build_model
from octavo.models.quantization_config import read_stored_format
from octavo.models.registry import read_model_config
from octavo.models.seated_adapters import SeatedAdapters
from octavo.quantization import scheme_for
from octavo.sampling.state import SampledToken, SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import (
    BASE_MODEL,
    PENDING_TOKEN,
    PendingStep,
    ScheduledSequence,
    ScoredRows,
    StepBatch,
)
from octavo.worker.gpu.cuda_graphs import Capture
from octavo.worker.gpu.drafter import GpuDrafting
from octavo.worker.gpu.executor import GpuExecutor
from octavo.worker.gpu.packed_runner import RunnerLimits
from octavo.worker.gpu.parked_weights import park
from octavo.worker.gpu.runner import GpuRunner
from octavo.worker.loaded import Loaded
from octavo.worker.start.adapters import adapters_of
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import executor_info
from octavo.worker.wakeable import Wakeable
from tests.support.runtime.checkpoints import VOCAB

from .stepping import GREEDY

CPU = torch.device("cpu")


def called(work: Callable[[], None]) -> Callable[[], None]:
    """In place of recording: each replay runs the step."""
    return work


def make_gpu_executor(
    folder: Path,
    *,
    kernels: DeviceKernels = reference,
    is_padded: bool = True,
    dtype: torch.dtype = torch.float32,
    cache_dtype: torch.dtype | None = None,
    device: torch.device = CPU,
    num_blocks: int = 200,
    max_num_seqs: int = 16,
    max_drafts: int = 0,
    max_model_len: int | None = None,
    weights: WeightSource | None = None,
    implementation: ModelImplementation = ModelImplementation.OCTAVO,
    quantization: Quantization | None = None,
    rounds_inputs: bool = False,
    max_loras: int = 0,
    capture: Capture = called,
) -> GpuExecutor:
    """`is_padded` runs decode steps at the sizes that a GPU would record; `weights` are else the folder's;
    `rounds_inputs` to FP8 where the checkpoint says so; with `max_loras` it takes adapters of up to 20 ranks;
    `capture` records."""
    lora: dict[str, Any] = {"enable_lora": True, "max_loras": max_loras, "max_lora_rank": 20}
    config = EngineConfig(
        model=str(folder),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=512,
        **(lora if max_loras else {}),
    )
    model_config = read_model_config(folder, implementation)
    spec, placement = model_config.spec, Placement(dtype, device)
    limits = replace(
        RunnerLimits.of(
            config, num_blocks=num_blocks, max_model_len=max_model_len or spec.default_context
        ),
        max_drafts=max_drafts,
    )
    adapters = adapters_of(config, model_config, kernels, placement)
    assert adapters is None or isinstance(adapters, SeatedAdapters)

    @torch.inference_mode()
    def load() -> Loaded[GpuDrafting]:
        built = build_model(
            model_config,
            weights or SafetensorsWeights(folder),
            scheme=scheme_for(
                quantization, kernels, read_stored_format(folder), rounds_inputs=rounds_inputs
            ),
            kernels=kernels,
            placement=placement,
            adapters=adapters,
        )
        return Loaded(built)

    def make(of: Loaded[GpuDrafting]) -> GpuRunner:
        return GpuRunner(
            of.model,
            kernels,
            limits,
            device=device,
            dtype=dtype,
            cache_dtype=cache_dtype or dtype,
            seed=0,
            normalises=normalises(folder),
            adapters=adapters,
        )

    def record(runner: GpuRunner) -> None:
        if is_padded:
            runner.capture(capture)

    loaded = Wakeable(load(), make, load, park)
    record(loaded.runner)
    size = KVCacheSize(num_blocks, limits.max_model_len, is_capped=False)
    info = executor_info(
        config, spec, size, dtype=dtype, device=device, phases={}, is_asynchronous=True
    )
    return GpuExecutor(loaded, info, record, adapters)


@dataclass
class Running:
    """A sequence as the engine sees it; what is in flight is not in `output` yet."""

    sequence_id: int
    prompt: list[int]
    params: SamplingParams = GREEDY
    seed: int | None = None
    output: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    tokens: list[SampledToken] = field(default_factory=list)
    num_best: int | None = None
    scored: list[SampledToken] = field(default_factory=list)
    adapter_id: int = BASE_MODEL

    @property
    def is_pending(self) -> bool:
        """The next token to be run is one that the step in flight samples."""
        return self.computed == len(self.prompt) + len(self.output)


class Overlapped:
    """Submits step n + 1 before it takes step n's result, as the engine does."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._free = list(range(executor.info.num_kv_blocks - 1, -1, -3))
        self._in_flight: tuple[PendingStep, list[Running]] | None = None
        self._released: list[int] = []
        self.num_pending = 0
        self._scored_by: dict[int, Running] = {}

    def submit(
        self, parts: Sequence[tuple[Running, int]], copies: Sequence[tuple[int, int]] = ()
    ) -> None:
        entries = [self._entry(sequence, count) for sequence, count in parts]
        step = self._executor.submit(StepBatch(entries, copies, self._released))
        self._released = []
        self.take()
        sampled = [s for (s, _), e in zip(parts, entries, strict=True) if e.sampling is not None]
        self._in_flight = (step, sampled)

    def take(self) -> None:
        """The result of the step in flight."""
        if self._in_flight is None:
            return
        step, sampled = self._in_flight
        self._in_flight = None
        tokens = step.result()
        for token in step.scored:
            self._scored_by[token.sequence_id].scored.append(token)
        assert [t.sequence_id for t in tokens] == [s.sequence_id for s in sampled]
        for sequence, token in zip(sampled, tokens, strict=True):
            sequence.output.append(token.token_id)
            sequence.tokens.append(token)

    def preempt(self, sequence: Running) -> None:
        """Everything of it in flight must have been taken."""
        self._free.extend(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0
        self._released.append(sequence.sequence_id)

    def take_block(self) -> int:
        return self._free.pop()

    def _entry(self, sequence: Running, count: int) -> ScheduledSequence:
        known = [*sequence.prompt, *sequence.output]
        start, end = sequence.computed, sequence.computed + count
        while len(sequence.blocks) * self._executor.info.block_size < end:
            sequence.blocks.append(self._free.pop())
        token_ids = known[start:end]
        if sequence.is_pending:
            assert count == 1
            token_ids = [PENDING_TOKEN]
            self.num_pending += 1
        sequence.computed = end
        sampling = None
        if end >= len(known):
            sampling = SamplingState(
                sequence.params, sequence.seed, sequence.prompt, sequence.output
            )
        targets = sequence.prompt[start + 1 : end + 1]
        scored = None
        if sequence.num_best is not None and targets:
            scored = ScoredRows(targets, sequence.num_best)
            self._scored_by[sequence.sequence_id] = sequence
        return ScheduledSequence(
            sequence.sequence_id,
            token_ids,
            start,
            sequence.blocks,
            sampling,
            scored,
            adapter_id=sequence.adapter_id,
        )


def sequences(*lengths: int, **kwargs: Any) -> list[Running]:
    numbers = random.Random(sum(lengths))  # noqa: S311
    return [
        Running(i, [numbers.randrange(3, VOCAB) for _ in range(length)], **kwargs)
        for i, length in enumerate(lengths)
    ]


def greedy(reference: Any, sequence: Running) -> list[int]:
    count = len(sequence.prompt)
    output = reference.generate(
        torch.tensor([sequence.prompt]),
        attention_mask=torch.ones(1, count, dtype=torch.int64),
        max_new_tokens=len(sequence.output),
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return list(output[0, count:].tolist())
