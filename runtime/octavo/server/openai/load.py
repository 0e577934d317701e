"""Load of the server, `GET /load`: what runs, waits and is held now, for the page and `octavo top`.

vLLM's route has `server_load` alone. Everything else means what the metric of that name does, without its
prefix; counters grow from the engine's start.
"""

from __future__ import annotations

import msgspec

from octavo.engine.messages import EngineInfo
from octavo.server.process.engine_view import EngineView


class LoadedModel(msgspec.Struct, frozen=True):
    """What is served. `kv_cache_tokens` is the cache's size; 0 for an encoder, which keeps none."""

    name: str
    root: str
    max_model_len: int
    dtype: str
    device: str
    kv_cache_tokens: int
    can_generate: bool
    gives_scores: bool

    @classmethod
    def of(cls, name: str, root: str, info: EngineInfo) -> LoadedModel:
        return cls(
            name,
            root,
            info.max_model_len,
            info.dtype,
            info.device,
            info.num_kv_blocks * info.block_size,
            info.can_generate,
            info.gives_scores,
        )


class Load(msgspec.Struct, frozen=True):
    """`server_load` counts sequences, running and waiting."""

    server_load: int
    requests_running: int
    requests_waiting: int
    kv_cache_usage_ratio: float
    kv_cache_tokens: int
    prompt_tokens_total: int
    generation_tokens_total: int
    prefix_cache_hit_tokens_total: int
    prefix_cache_query_tokens_total: int
    preemptions_total: int
    model: LoadedModel

    @classmethod
    def of(cls, model: LoadedModel, view: EngineView) -> Load:
        stats = view.stats
        return cls(
            stats.num_running + view.num_waiting,
            stats.num_running,
            view.num_waiting,
            view.kv_cache_usage,
            stats.kv_tokens_held,
            stats.prompt_tokens_total,
            stats.generation_tokens_total,
            stats.prefix_cache_hit_tokens_total,
            stats.prefix_cache_query_tokens_total,
            stats.preemptions_total,
            model,
        )
