"""Start of an EAGLE-3 head: what it says of itself, against the model that it is for, then its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from octavo.config import EngineConfig, LoadFormat
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.protocols.layers import StreamKernels
from octavo.loading import DummyWeights, SafetensorsWeights, WeightSource
from octavo.models.base import CausalLM, ModelConfig
from octavo.models.blocks import DecoderStack
from octavo.models.eagle3 import Eagle3Config, Eagle3Head, build_eagle3, read_eagle3_config
from octavo.models.eagle3.head import EMBEDDING
from octavo.models.hidden_states import FixedStates
from octavo.models.spec import ModelSpec
from octavo.models.stored_tables import whole_embedding
from octavo.quantization import Unquantised
from octavo.worker.cpu.drafter import MakeDrafter
from octavo.worker.cpu.eagle import EagleDrafter
from octavo.worker.cpu.step_inputs import MAX_REPEATED_ROWS
from octavo.worker.cpu.step_memory import StepMemory
from octavo.worker.gpu.draft_rows import most_drafts_of_one
from octavo.worker.gpu.drafter import GpuDrafting
from octavo.worker.gpu.eagle import EagleOnGpu, HeadModel
from octavo.worker.gpu.runner import GpuRunner
from octavo.worker.start.drafter_checks import (
    check_context,
    check_is_no_encoder,
    naming,
    refused,
)
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.gpu_fit import Beside
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import cache_block_bytes
from octavo.worker.start.plan import StartPlan, open_weights

HEAD = "The EAGLE-3 head"

_STEPS_AT_ONCE = 8
"""Without drafts, that the head reads together on a GPU: it costs a launch or two a step then."""


@dataclass(frozen=True, slots=True)
class EaglePlan:
    """See `DrafterPlan`.

    Args:
        watched: Layers of the model that the head reads.
        has_embedding: It brings its own.
        model: Whose dtype, device and kernels it has.
    """

    folder: Path
    head: Eagle3Config
    watched: tuple[int, ...]
    has_embedding: bool
    model: StartPlan

    def beside(self, config: EngineConfig) -> Beside:
        return beside_model(
            config,
            self.head,
            len(self.watched),
            self.model.dtype,
            has_embedding=self.has_embedding,
        )

    @property
    def is_shared(self) -> bool:
        """Ranks share the model: the head is the first one's, whole."""
        return self.model.config.tensor_parallel_size > 1

    def check_length(self, config: EngineConfig, max_model_len: int) -> None:
        check_context(config, f"the head in {self.folder}", self.head.spec, max_model_len)

    def read(self, config: EngineConfig, size: KVCacheSize, model: CausalLM) -> MakeDrafter:
        plan, head = self.model, self._read(model)
        states = self._stack(model).watch(self.watched, self._fixed(model))
        # A prompt's chunk is read with the position before it, whose token is the chunk's first.
        max_tokens = config.max_num_batched_tokens + config.max_num_seqs

        def make() -> EagleDrafter:
            memory = StepMemory(
                self.head.spec,
                num_blocks=size.num_blocks,
                max_model_len=size.max_model_len,
                block_size=config.block_size,
                max_tokens=max_tokens,
                device=plan.device,
                dtype=plan.dtype,
                cache_dtype=choose_cache_dtype(config.kv_cache_dtype, plan.dtype),
            )
            keeps_ends = config.enable_prefix_caching
            return EagleDrafter(
                head,
                states,
                memory,
                max_tokens,
                keeps_ends=keeps_ends,
                block_size=config.block_size,
            )

        return make

    def read_on_gpu(
        self, config: EngineConfig, model: CausalLM, kernels: DeviceKernels
    ) -> GpuDrafting:
        plan, head = self.model, self._read(model)
        watch = self._stack(model).watch(self.watched)
        width = watch.count * model.spec.hidden_size
        most_waiting = most_drafts_of_one(config) + _STEPS_AT_ONCE

        def make(runner: GpuRunner) -> EagleOnGpu:
            limits, guided = runner.limits, HeadModel(head)
            self.check_length(config, limits.max_model_len)
            tokens = limits.max_num_batched_tokens + limits.max_num_seqs
            own = GpuRunner(
                guided,
                kernels,
                dataclasses.replace(
                    limits, max_drafts=0, max_adapters=0, max_num_batched_tokens=tokens
                ),
                device=plan.device,
                dtype=plan.dtype,
                cache_dtype=choose_cache_dtype(config.kv_cache_dtype, plan.dtype),
                seed=config.seed,
            )
            return EagleOnGpu(
                guided,
                own,
                runner.rows.seed_of,
                most_waiting=most_waiting,
                width=width,
                dtype=plan.dtype,
                keeps_ends=config.enable_prefix_caching,
            )

        kept = config.max_num_seqs * (1 + most_waiting) * width * plan.dtype.itemsize
        return GpuDrafting(make, self.beside(config).block_bytes, watch, kept)

    def _read(self, model: CausalLM) -> Eagle3Head:
        """Its weights."""
        plan = self.model
        with torch.inference_mode(), naming(HEAD, self.folder):
            weights = open_head(plan.config, self.folder, plan)
            embed = self._stack(model).embed
            if self.is_shared:  # the model's own takes all ranks to look up
                source = open_weights(plan.config, plan.model, plan.placement)
                embed = whole_embedding(plan.model, source, plan.placement)
            return build_eagle3(
                self.head,
                weights,
                watched=self.watched,
                embed=embed,
                kernels=plan.kernels,
                placement=plan.placement,
            )

    def _fixed(self, model: CausalLM) -> FixedStates | None:
        """Where the device repeats steps."""
        kernels, dtype = self.model.kernels, self.model.dtype
        if not isinstance(kernels, StreamKernels):
            return None
        width = len(self.watched) * model.spec.hidden_size
        return FixedStates(torch.empty(MAX_REPEATED_ROWS, width, dtype=dtype), kernels)

    def _stack(self, model: CausalLM) -> DecoderStack:
        if not isinstance(model, DecoderStack):
            raise TypeError(f"{type(model).__name__} has no layers to watch.")
        return model


def beside_model(
    config: EngineConfig,
    head: Eagle3Config,
    num_watched: int,
    dtype: torch.dtype,
    *,
    has_embedding: bool,
) -> Beside:
    """What a head takes.

    Args:
        dtype: Of the model.
        has_embedding: It brings its own, which a start may find to be the model's, and not keep.
    """
    weights = sum(Unquantised().num_bytes(one, dtype) for one in head.projections(num_watched))
    table = head.spec.vocab_size * head.spec.hidden_size * dtype.itemsize
    block = cache_block_bytes(config, head.spec, choose_cache_dtype(config.kv_cache_dtype, dtype))
    if has_embedding:
        return Beside(weights + table, block)
    return Beside(weights, block, table)


def plan_eagle(config: EngineConfig, path: str, model: StartPlan) -> EaglePlan:
    """Raises as `read_head`, and `ModelInvalidError` where there are no weights."""
    folder = Path(path)
    head, watched = read_head(config, folder, model.model)
    with naming(HEAD, folder):
        has_embedding = head.needs_embedding or open_head(config, folder, model).has(EMBEDDING)
    return EaglePlan(folder, head, watched, has_embedding, model)


def open_head(config: EngineConfig, folder: Path, model: StartPlan) -> WeightSource:
    """Its weights, none of which is read yet. Raises `ModelInvalidError` where there are none."""
    if config.load_format is LoadFormat.DUMMY:
        return DummyWeights(dtype=model.dtype, device=model.device, seed=config.seed)
    return SafetensorsWeights(folder)


def read_head(
    config: EngineConfig, folder: Path, model: ModelConfig
) -> tuple[Eagle3Config, tuple[int, ...]]:
    """The head in `folder`, and which of the model's layers it reads.

    Raises `InvalidConfigurationError` where it is not for the model, and as `read_eagle3_config`.
    """
    spec = model.spec
    if model.is_generic:
        raise refused(
            config,
            f"{spec.architecture} runs by transformers' own modules, whose hidden states are not read. Use "
            "ngram or draft_model.",
        )
    if spec.widest_window is not None:
        raise refused(
            config,
            "all layers of the model have sliding windows: blocks behind them are freed, which the head "
            "would read. Use method ngram.",
        )
    check_is_no_encoder(config, folder)
    with naming(HEAD, folder):
        head = read_eagle3_config(folder)
        watched = head.watched_of(spec.num_layers)
    for what, own, wanted in _sizes(head, spec):
        if own != wanted:
            raise refused(
                config,
                f"the head in {folder} is for a model of another {what}: its config.json says {own}, and "
                f"the model has {wanted}.",
            )
    return head, watched


def _sizes(head: Eagle3Config, spec: ModelSpec) -> Iterator[tuple[str, int, int]]:
    yield "vocabulary (vocab_size)", head.spec.vocab_size, spec.vocab_size
    name = "width (target_hidden_size, or hidden_size)"
    yield name, head.target_hidden_size, spec.hidden_size
