"""Start of a draft model, by the same loader as the model's."""

from __future__ import annotations

import dataclasses

import msgspec

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.models.spec import ModelSpec
from octavo.options import turned_off
from octavo.speculative_config import SpeculativeMethod
from octavo.worker.cpu.draft_model import DraftModel
from octavo.worker.cpu.executor import host_runner
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import cache_block_bytes
from octavo.worker.start.plan import StartPlan, plan_start
from octavo.worker.start.weight_bytes import weight_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class DraftPlan:
    """What is loaded beside the model."""

    plan: StartPlan

    @property
    def weight_bytes(self) -> int:
        return weight_bytes(self.plan.model, self.plan.dtype, self.plan.scheme)

    def shared(self, size: KVCacheSize, config: EngineConfig, model: StartPlan) -> KVCacheSize:
        """Both caches within the memory of `size`, which is the model's alone.

        Raises `InvalidConfigurationError` where `max_model_len` does not fit then, or the draft model does
        not reach it.
        """
        own, drafts = (
            cache_block_bytes(
                config, each.model.spec, choose_cache_dtype(config.kv_cache_dtype, each.dtype)
            )
            for each in (model, self.plan)
        )
        num_blocks = max(1, size.num_blocks * own // (own + drafts))
        length = min(size.max_model_len, num_blocks * config.block_size)
        if config.max_model_len is not None and length < config.max_model_len:
            raise _refused(
                f"the caches of both models hold {length} tokens, and max_model_len is "
                f"{config.max_model_len}. Lower it, or raise --kv-cache-memory."
            )
        if self.plan.model.spec.context < length:
            raise _refused(
                f"the draft model knows {self.plan.model.spec.context} positions, and max_model_len is "
                f"{length}. Lower --max-model-len, or use another draft model."
            )
        return dataclasses.replace(size, num_blocks=num_blocks, max_model_len=length)

    def start(self, config: EngineConfig, size: KVCacheSize) -> DraftModel:
        """Reads the weights."""
        runner = host_runner(
            config, self.plan.build(), size, device=self.plan.device, dtype=self.plan.dtype
        )
        return DraftModel(runner, config.max_num_batched_tokens)


def plan_draft(config: EngineConfig, model: ModelSpec) -> DraftPlan | None:
    """None where no draft model is wanted. Raises as `plan_start`, and `InvalidConfigurationError` where it
    cannot guess for `model`."""
    wanted = config.speculative_config
    if wanted is None or wanted.method is not SpeculativeMethod.DRAFT_MODEL or wanted.model is None:
        return None
    if config.enable_sleep_mode:
        raise _refused("a draft model does not sleep so far. Leave --enable-sleep-mode out.")
    if any(window is not None for window in model.windows):
        raise _refused("the model has sliding windows, which drafts of a model do not mind so far.")
    plan = plan_start(
        msgspec.structs.replace(
            config,
            model=wanted.model,
            speculative_config=None,
            **turned_off(EngineConfig, "enable_lora"),
            place=None,
            tensor_parallel_size=1,
            quantization=None,
            max_model_len=None,
        )
    )
    size, own = plan.model.spec.vocab_size, model.vocab_size
    if size != own:
        raise _refused(
            f"the draft model has {size} tokens and the model {own}; they must have the same vocabulary."
        )
    return DraftPlan(plan)


def _refused(why: str) -> InvalidConfigurationError:
    return InvalidConfigurationError(f"speculative_config has method draft_model, and {why}")
