"""Small models of every family of Octavo's own, of sizes that ranks share in unequal parts."""

from __future__ import annotations

from typing import Any

from tests.support.runtime.checkpoints import GEMMA2, GRANITE

# Inner widths and a vocabulary that neither 2 nor 4 divides; key heads that 4 ranks must share.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 90,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 30}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("bloom", {}),
    "falcon-alibi": ("falcon", {"alibi": True, "multi_query": False, "parallel_attn": False}),
    "mpt": ("mpt", {"attn_config": {"clip_qkv": 2.0}}),
    "falcon": ("falcon", {"bias": True}),  # one key head for all
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 4}),
    "gemma2": ("gemma2", GEMMA2),
    "gemma3": ("gemma3", {"sliding_window": 7, "sliding_window_pattern": 2}),
    "gpt_neox": ("gpt_neox", {"rotary_pct": 0.5}),
    "gpt_neox-serial": ("gpt_neox", {"use_parallel_residual": False}),
    "granite": ("granite", GRANITE),
    "llama": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "mistral": ("mistral", {}),
    "mixtral": ("mixtral", {"num_local_experts": 5}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {"head_dim": None}),
    "qwen2": ("qwen2", {}),
    "qwen2_moe": ("qwen2_moe", MOE | {"shared_expert_intermediate_size": 50}),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": ("qwen3_moe", MOE | {"mlp_only_layers": [1]}),
}


def families() -> set[str]:
    """Those of `KINDS`, as classes are called."""
    return {f"{family.replace('_', '')}forcausallm" for family, _ in KINDS.values()}
