"""Option pairs: options of an engine that do not go together, whatever the model and the machine.

They are refused when the configuration is made, before a model is fetched or a process is started. What
depends on the model too is refused at the start (`worker/start`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.errors import InvalidConfigurationError
from octavo.speculative_config import SpeculativeMethod

if TYPE_CHECKING:
    from octavo.config import EngineConfig

MERGE_INSTEAD = (
    "Leave --enable-lora out, and serve the adapter merged into its base model (PEFT's "
    "merge_and_unload)."
)


def check_pairs(config: EngineConfig) -> None:
    """Raises `InvalidConfigurationError`."""
    _check_ranks(config)
    _check_random_weights(config)
    _check_halves(config)
    _check_bounds(config)
    _check_adapters(config)
    _check_what_guesses(config)


def _check_ranks(config: EngineConfig) -> None:
    if config.tensor_parallel_size % config.num_nodes:
        raise InvalidConfigurationError(
            f"tensor_parallel_size is {config.tensor_parallel_size} and nnodes is {config.num_nodes}: each "
            "node has as many ranks as any other. Give a multiple of the nodes."
        )


def _check_random_weights(config: EngineConfig) -> None:
    stored = config.quantization
    if config.load_format.is_random and stored is not None and stored.is_checkpoints_alone:
        raise InvalidConfigurationError(
            f"load_format is dummy, and quantization is {stored.value}, which a checkpoint has and random "
            "weights have not. Use --quantization int8, int4 or fp8, which are made at load, or "
            "--load-format auto."
        )


def _check_halves(config: EngineConfig) -> None:
    if config.device.is_cpu and config.quantization is not None and config.dtype == "float16":
        raise InvalidConfigurationError(
            f"quantization is {config.quantization.value} and device is cpu, but dtype is float16, in which "
            "CPUs do not multiply. Use --dtype auto, bfloat16 or float32."
        )


def _check_bounds(config: EngineConfig) -> None:
    if config.max_num_batched_tokens < config.max_num_seqs:
        raise InvalidConfigurationError(
            f"max_num_batched_tokens ({config.max_num_batched_tokens}) is below max_num_seqs "
            f"({config.max_num_seqs}): one decode step of all sequences would not fit. Raise the "
            "first or lower the second."
        )


def _check_adapters(config: EngineConfig) -> None:
    if not config.enable_lora:
        return
    if config.enable_sleep_mode:
        raise InvalidConfigurationError(
            "enable_lora is set, but enable_sleep_mode is set too: a model that wakes up would have lost its "
            f"adapters. {MERGE_INSTEAD}"
        )


def _check_what_guesses(config: EngineConfig) -> None:
    wanted = config.speculative_config
    if wanted is None or wanted.model is None:
        return
    if wanted.method is SpeculativeMethod.EAGLE3 and config.model_impl.is_generic_alone:
        raise InvalidConfigurationError(
            "speculative_config has method eagle3, and model_impl is transformers, whose own modules' hidden "
            "states are not read. Use ngram or draft_model."
        )
