"""Start of what guesses on the worker's side: a draft model, by the same loader as the model's, or a head."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import msgspec

from octavo.config import EngineConfig
from octavo.kernels.protocols.device import DeviceKernels
from octavo.models.base import CausalLM
from octavo.models.common_vocabulary import with_common_vocabulary
from octavo.options import turned_off
from octavo.speculative_config import SpeculativeMethod
from octavo.worker import machine
from octavo.worker.cpu.draft_model import DraftModel
from octavo.worker.cpu.drafter import MakeDrafter
from octavo.worker.cpu.executor import host_runner
from octavo.worker.gpu.draft_model import GpuDraftModel
from octavo.worker.gpu.drafter import GpuDrafting
from octavo.worker.gpu.runner import GpuRunner
from octavo.worker.loaded import Loaded
from octavo.worker.start.drafter_checks import (
    check_context,
    check_is_whole,
    naming,
    refused,
)
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.eagle import plan_eagle
from octavo.worker.start.gpu_fit import NOTHING, Beside
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import cache_block_bytes, size_host_cache
from octavo.worker.start.plan import StartPlan, plan_start
from octavo.worker.start.vocabulary import check_vocabulary
from octavo.worker.start.weight_bytes import weight_bytes

DRAFT_MODEL = "The draft model"


class DrafterPlan(Protocol):
    """What is loaded beside the model, on the first of its ranks alone."""

    def beside(self, config: EngineConfig) -> Beside:
        """What it takes. Its KV cache has as many blocks as the model's."""
        ...

    def check_length(self, config: EngineConfig, max_model_len: int) -> None:
        """Raises `InvalidConfigurationError` where it does not know so many positions."""
        ...

    def read(self, config: EngineConfig, size: KVCacheSize, model: CausalLM) -> MakeDrafter:
        """For a CPU. Reads the weights; raises `ModelInvalidError` where they are not as config.json says."""
        ...

    def read_on_gpu(
        self, config: EngineConfig, model: CausalLM, kernels: DeviceKernels
    ) -> GpuDrafting:
        """As `read`, on the model's GPU."""
        ...


def beside(drafts: DrafterPlan | None, config: EngineConfig) -> Beside:
    """What it takes."""
    return NOTHING if drafts is None else drafts.beside(config)


@dataclasses.dataclass(frozen=True, slots=True)
class DraftModelPlan:
    """See `DrafterPlan`."""

    folder: Path
    plan: StartPlan

    def beside(self, config: EngineConfig) -> Beside:
        plan = self.plan
        cache_dtype = choose_cache_dtype(config.kv_cache_dtype, plan.dtype)
        return Beside(
            weight_bytes(plan.model, plan.dtype, plan.scheme),
            cache_block_bytes(config, plan.model.spec, cache_dtype),
        )

    def check_length(self, config: EngineConfig, max_model_len: int) -> None:
        check_context(config, "the draft model", self.plan.model.spec, max_model_len)

    def read(self, config: EngineConfig, size: KVCacheSize, model: CausalLM) -> MakeDrafter:
        plan, draft = self.plan, self._build(model)

        def make() -> DraftModel:
            runner = host_runner(plan.config, draft, size, device=plan.device, dtype=plan.dtype)
            return DraftModel(runner, config.max_num_batched_tokens, config.block_size)

        return make

    def read_on_gpu(
        self, config: EngineConfig, model: CausalLM, kernels: DeviceKernels
    ) -> GpuDrafting:
        plan, draft = self.plan, self._build(model)

        def make(runner: GpuRunner) -> GpuDraftModel:
            limits = runner.limits
            self.check_length(config, limits.max_model_len)
            own = GpuRunner(
                draft,
                kernels,
                dataclasses.replace(limits, max_drafts=0, max_adapters=0),
                device=plan.device,
                dtype=plan.dtype,
                cache_dtype=choose_cache_dtype(config.kv_cache_dtype, plan.dtype),
                seed=config.seed,
            )
            is_recorded = not plan.config.enforce_eager
            return GpuDraftModel(own, runner.rows.seed_of, is_recorded=is_recorded)

        return GpuDrafting(make, self.beside(config).block_bytes)

    def _build(self, model: CausalLM) -> CausalLM:
        """Of one rank, as the plan's config is: it guesses for all of them."""
        with naming(DRAFT_MODEL, self.folder):
            draft = self.plan.build_anew()
        return with_common_vocabulary(draft, model.spec.vocab_size)


def plan_drafter(config: EngineConfig, model: StartPlan) -> DrafterPlan | None:
    """None where the engine guesses by itself, or nobody does. Raises as `plan_start`, and
    `InvalidConfigurationError` where what is wanted cannot guess for `model`."""
    wanted = config.speculative_config
    if wanted is None or wanted.model is None:
        return None
    if wanted.method is SpeculativeMethod.EAGLE3:
        return plan_eagle(config, wanted.model, model)
    return _plan_draft_model(config, wanted.model, model)


def _plan_draft_model(config: EngineConfig, path: str, model: StartPlan) -> DraftModelPlan:
    folder = Path(path)
    if any(window is not None for window in model.model.spec.windows):
        raise refused(
            config,
            "the model has sliding windows, which drafts of a model do not mind so far. Use method ngram.",
        )
    check_is_whole(config, folder)
    wanted = msgspec.structs.replace(
        config,
        model=path,
        speculative_config=None,
        **turned_off(EngineConfig, "enable_lora"),
        place=None,
        tensor_parallel_size=1,
        quantization=None,
        max_model_len=None,
    )
    with naming(DRAFT_MODEL, folder):
        plan = plan_start(wanted)
    check_vocabulary(config, plan.model, model.model, folder)
    return DraftModelPlan(folder, plan)


def loaded_with(
    drafts: DrafterPlan | None, config: EngineConfig, size: KVCacheSize, model: CausalLM
) -> Loaded[MakeDrafter]:
    """The model, with what guesses for it. Raises as `DrafterPlan.read`."""
    return Loaded(model, None if drafts is None else drafts.read(config, size, model))


def loaded_on_gpu_with(
    drafts: DrafterPlan | None, config: EngineConfig, kernels: DeviceKernels, model: CausalLM
) -> Loaded[GpuDrafting]:
    """As `loaded_with`, on a GPU."""
    return Loaded(model, None if drafts is None else drafts.read_on_gpu(config, model, kernels))


def size_cache_with(drafts: DrafterPlan | None, plan: StartPlan) -> KVCacheSize:
    """Of a CPU, in blocks that hold a token's keys and values of the model, and of what guesses for it.

    Raises as `size_host_cache` and `DrafterPlan.check_length`.
    """
    available, scheme = machine.available_memory_bytes(), plan.scheme
    if drafts is None:
        return size_host_cache(plan.config, plan.model, plan.dtype, scheme, available)
    needs = drafts.beside(plan.config)
    size = size_host_cache(
        plan.config,
        plan.model,
        plan.dtype,
        scheme,
        available - needs.weight_bytes_of(plan.config.tensor_parallel_size),
        draft_block_bytes=needs.block_bytes,
    )
    drafts.check_length(plan.config, size.max_model_len)
    return size
