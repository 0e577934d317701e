"""Shared cache. One budget for the KV caches of a model and of what guesses for it, in the same blocks."""

from __future__ import annotations

import dataclasses

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.worker.start.memory import KVCacheSize


def shared_cache(
    size: KVCacheSize, config: EngineConfig, own_bytes: int, draft_bytes: int
) -> KVCacheSize:
    """What of `size`, which is the model's alone, is left for both.

    Args:
        own_bytes, draft_bytes: Of a block, in all layers.

    Raises `InvalidConfigurationError` where `max_model_len` does not fit then.
    """
    num_blocks = max(1, size.num_blocks * own_bytes // (own_bytes + draft_bytes))
    length = min(size.max_model_len, num_blocks * config.block_size)
    if config.max_model_len is not None and length < config.max_model_len:
        raise refused(
            config,
            f"the caches of both hold {length} tokens, and max_model_len is {config.max_model_len}. Lower "
            "it, or raise --kv-cache-memory.",
        )
    return dataclasses.replace(size, num_blocks=num_blocks, max_model_len=length)


def refused(config: EngineConfig, why: str) -> InvalidConfigurationError:
    wanted = config.speculative_config
    method = "" if wanted is None else wanted.method.value
    return InvalidConfigurationError(f"speculative_config has method {method}, and {why}")
