"""Drawn models: tiny checkpoints of each family, of a config.json that nobody chose so that it passes."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tests.support.runtime.checkpoints import make_checkpoint

# Two, so that every switch is seen both ways; more of them, to look for what these do not show.
COUNT = int(os.environ.get("OCTAVO_DRAWN_MODELS", "2"))
_T = TypeVar("_T")


class Draws:
    """What is drawn for a family's `number`th model. The second has every switch the other way round from the
    first, so that both ways are seen whatever is drawn."""

    def __init__(self, family: str, number: int) -> None:
        self._random = random.Random(f"{family} {number}")  # noqa: S311
        self._switches = random.Random(f"{family} {max(number, 1)}")  # noqa: S311
        self._is_turned = number == 1

    def switch(self) -> bool:
        return (self._switches.random() < 0.5) != self._is_turned

    def one_of(self, *values: _T) -> _T:
        return self._random.choice(values)


Draw = Callable[[Draws], dict[str, Any]]


def drawn_checkpoint(folder: Path, family: str, number: int) -> Any:
    """Saves the family's `number`th model to `folder` and returns transformers' own instance of it, fp32."""
    return make_checkpoint(folder, family, seed=number, **drawn_fields(family, number))


def drawn_fields(family: str, number: int) -> dict[str, Any]:
    draws = Draws(family, number)
    fields: dict[str, Any] = {
        "vocab_size": draws.one_of(97, 128, 160),
        "num_hidden_layers": draws.one_of(1, 2, 3, 4),
        "intermediate_size": draws.one_of(40, 64, 96, 128),
        "tie_word_embeddings": draws.switch(),
        **FAMILIES[family](draws),
    }
    return {"initializer_range": 1.7 / math.sqrt(fields["hidden_size"]), **fields}


def share(draws: Draws, head_dim: int) -> float:
    """Of a head's channels, so that an even number of them turns."""
    turning: int = draws.one_of(*range(2, head_dim + 1, 2))
    return turning / head_dim


def scaling(draws: Draws) -> dict[str, Any]:
    """The fields of a scaled rotary embedding, or those of a plain one."""
    kind: dict[str, Any] = draws.one_of(
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 2.5},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    )
    return kind | {"rope_theta": draws.one_of(500.0, 10_000.0, 1e6)}


def equal_heads(draws: Draws) -> dict[str, Any]:
    """Heads that share the hidden size; each has its own key."""
    heads, head_dim = draws.one_of(1, 2, 3, 4, 6), draws.one_of(8, 16, 24, 32, 48)
    return {"num_attention_heads": heads, "hidden_size": heads * head_dim}


def grouped_heads(draws: Draws) -> dict[str, Any]:
    """Heads of a width of their own; some share a key."""
    kv_heads = draws.one_of(1, 2, 3)
    heads = kv_heads * draws.one_of(1, 2, 3)
    return {
        # Some of transformers' classes want a multiple of the heads, others whole vectors.
        "hidden_size": 8 * heads * draws.one_of(*range(1, max(12 // heads, 1) + 1)),
        "num_key_value_heads": kv_heads,
        "num_attention_heads": heads,
        "head_dim": draws.one_of(8, 16, 24, 32, 48),
    }


def llama(draws: Draws) -> dict[str, Any]:
    return {
        **grouped_heads(draws),
        "hidden_act": draws.one_of("silu", "gelu_pytorch_tanh"),
        "rms_norm_eps": draws.one_of(1e-6, 1e-3),
        "rope_parameters": scaling(draws),
    }


def granite(draws: Draws) -> dict[str, Any]:
    return {
        **with_biases(draws),
        "embedding_multiplier": draws.one_of(1.0, 3.0, 12.0),
        "attention_multiplier": draws.one_of(0.02, 0.3, 1.0),
        "residual_multiplier": draws.one_of(0.22, 0.5, 1.0, 1.4),
        "logits_scaling": draws.one_of(0.5, 1.0, 8.0),
    }


def with_biases(draws: Draws) -> dict[str, Any]:
    return {**llama(draws), "attention_bias": draws.switch(), "mlp_bias": draws.switch()}


def mistral(draws: Draws) -> dict[str, Any]:
    return {**llama(draws), "sliding_window": draws.one_of(None, 7, 40)}


def mixtral(draws: Draws) -> dict[str, Any]:
    experts = draws.one_of(2, 5, 8)
    per_token = draws.one_of(*range(1, min(experts, 4) + 1))
    return {**mistral(draws), "num_local_experts": experts, "num_experts_per_tok": per_token}


def qwen2(draws: Draws) -> dict[str, Any]:
    return {
        **llama(draws),
        "use_sliding_window": draws.switch(),
        "sliding_window": draws.one_of(7, 40),
        "max_window_layers": draws.one_of(0, 1, 2),
    }


def qwen3(draws: Draws) -> dict[str, Any]:
    return {**qwen2(draws), "attention_bias": draws.switch()}


def gemma2(draws: Draws) -> dict[str, Any]:
    return {
        **llama(draws),
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": draws.switch(),
        "sliding_window": draws.one_of(7, 40),
        "query_pre_attn_scalar": draws.one_of(8, 24),
        "attn_logit_softcapping": draws.one_of(None, 3.0),
        "final_logit_softcapping": draws.one_of(None, 4.0),
    }


def gemma3(draws: Draws) -> dict[str, Any]:
    local = {"rope_type": "default", "rope_theta": draws.one_of(100.0, 10_000.0)}
    return {
        **grouped_heads(draws),
        "rms_norm_eps": draws.one_of(1e-6, 1e-3),
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": draws.switch(),
        "sliding_window": draws.one_of(7, 40),
        "sliding_window_pattern": draws.one_of(1, 2, 3, 6),
        "query_pre_attn_scalar": draws.one_of(8, 24),
        "final_logit_softcapping": draws.one_of(None, 4.0),
        "rope_parameters": {"full_attention": scaling(draws), "sliding_attention": local},
    }


def bloom(draws: Draws) -> dict[str, Any]:
    return {**equal_heads(draws), "layer_norm_epsilon": draws.one_of(1e-5, 1e-3)}


def mpt(draws: Draws) -> dict[str, Any]:
    return {
        **equal_heads(draws),
        "layer_norm_epsilon": draws.one_of(1e-5, 1e-3),
        "attn_config": {
            "clip_qkv": draws.one_of(1.5, 3.0) if draws.switch() else None,
            "softmax_scale": draws.one_of(None, 0.3),
        },
    }


def falcon(draws: Draws) -> dict[str, Any]:
    sizes = equal_heads(draws)
    heads = sizes["num_attention_heads"]
    kind: dict[str, Any] = draws.one_of(
        {"new_decoder_architecture": False, "multi_query": True},
        {"new_decoder_architecture": False, "multi_query": False},
        {"new_decoder_architecture": True, "num_ln_in_parallel_attn": draws.one_of(None, 1, 2)},
    )
    if kind["new_decoder_architecture"]:
        kind["num_kv_heads"] = draws.one_of(*(n for n in range(1, heads + 1) if heads % n == 0))
    else:
        kind["parallel_attn"] = draws.switch()
    return {
        **sizes,
        **kind,
        "alibi": draws.switch(),
        "bias": draws.switch(),
        "activation": draws.one_of("gelu", "gelu_new", "relu"),
        "ffn_hidden_size": draws.one_of(None, 40, 128),
        "layer_norm_epsilon": draws.one_of(1e-5, 1e-3),
        "rope_parameters": scaling(draws),
    }


def gpt_neox(draws: Draws) -> dict[str, Any]:
    sizes = equal_heads(draws)
    head_dim = sizes["hidden_size"] // sizes["num_attention_heads"]
    return {
        **sizes,
        "hidden_act": draws.one_of("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"),
        "use_parallel_residual": draws.switch(),
        "attention_bias": draws.switch(),
        "layer_norm_eps": draws.one_of(1e-5, 1e-3),
        "rope_parameters": scaling(draws) | {"partial_rotary_factor": share(draws, head_dim)},
    }


def phi(draws: Draws) -> dict[str, Any]:
    sizes = equal_heads(draws)
    heads = sizes["num_attention_heads"]
    return {
        **sizes,
        "num_key_value_heads": draws.one_of(*(n for n in range(1, heads + 1) if heads % n == 0)),
        "hidden_act": draws.one_of("gelu", "gelu_new", "relu", "silu"),
        "layer_norm_eps": draws.one_of(1e-5, 1e-3),
        "rope_parameters": scaling(draws)
        | {"partial_rotary_factor": share(draws, sizes["hidden_size"] // heads)},
    }


def phi3(draws: Draws) -> dict[str, Any]:
    heads = grouped_heads(draws)
    # transformers' class looks at this quotient, whatever the heads' width.
    heads["head_dim"] = heads["hidden_size"] // heads["num_attention_heads"]
    part = share(draws, heads["head_dim"])
    turning = int(heads["head_dim"] * part)
    rope: dict[str, Any] = {"rope_type": "default"}
    if draws.switch():
        rope = {
            "rope_type": draws.one_of("longrope", "yarn"),
            "short_factor": [draws.one_of(1.0, 1.1, 1.5) for _ in range(turning // 2)],
            "long_factor": [draws.one_of(2.0, 3.0) for _ in range(turning // 2)],
        }
    return {
        **heads,
        "rms_norm_eps": draws.one_of(1e-6, 1e-3),
        "sliding_window": draws.one_of(None, 7, 40),
        "original_max_position_embeddings": 128,
        "rope_parameters": rope | {"partial_rotary_factor": part},
    }


def qwen_moe(draws: Draws) -> dict[str, Any]:
    experts = draws.one_of(2, 5, 8)
    return {
        **llama(draws),
        "num_experts": experts,
        "num_experts_per_tok": draws.one_of(*range(1, min(experts, 4) + 1)),
        "moe_intermediate_size": draws.one_of(16, 40, 64),
        "norm_topk_prob": draws.switch(),
        "decoder_sparse_step": draws.one_of(1, 1, 2),
        "mlp_only_layers": draws.one_of([], [0], [1, 2]),
        "use_sliding_window": draws.switch(),
        "sliding_window": draws.one_of(7, 40),
    }


def qwen2_moe(draws: Draws) -> dict[str, Any]:
    return {
        **qwen_moe(draws),
        "shared_expert_intermediate_size": draws.one_of(24, 64),
        "qkv_bias": draws.switch(),
        "max_window_layers": draws.one_of(1, 2, 3),
    }


def qwen3_moe(draws: Draws) -> dict[str, Any]:
    return {**qwen_moe(draws), "attention_bias": draws.switch()}


FAMILIES: Mapping[str, Draw] = {
    "bloom": bloom,
    "falcon": falcon,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gpt_neox": gpt_neox,
    "granite": granite,
    "llama": with_biases,
    "mistral": mistral,
    "mixtral": mixtral,
    "mpt": mpt,
    "phi": phi,
    "phi3": phi3,
    "qwen2": qwen2,
    "qwen2_moe": qwen2_moe,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
}
