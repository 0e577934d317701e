"""Small models of any causal family that transformers has, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

from tests.support.runtime.checkpoints import VOCAB, randomise_vectors

# Whatever a config class knows of these; many have names of their own for the same.
_FIELDS: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "n_embd": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 256,
    "n_inner": 96,
    "d_model": 64,
    "num_layers": 4,
    "num_heads": 4,
    "ffn_dim": 96,
    "word_embed_proj_dim": 64,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "d_ff": 96,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "ffn_hidden_size": 96,
    # Shorter than the prompts.
    "sliding_window": 23,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    # Large enough that attention is peaked: with 0.02 every position looks alike.
    "initializer_range": 0.25,
    "init_std": 0.25,
}
_OF_LAYERS = ("layer_types", "mlp_layer_types")


def tiny_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    """Of the text part of that type; raises what its class raises of such sizes."""
    text_class = type(CONFIG_MAPPING[model_type]().get_text_config(decoder=True))
    default = text_class()
    fields = {name: value for name, value in _FIELDS.items() if hasattr(default, name)}
    per_layer = {name: None for name in _OF_LAYERS if hasattr(default, name)}
    try:
        return text_class(**{**fields, **per_layer, **changes})
    except Exception:  # some take no null for them
        return text_class(**{**fields, **changes})


def make_generic_checkpoint(folder: Path, model_type: str, **changes: Any) -> Any:
    """Saves such a model to `folder` and returns transformers' own instance of it, fp32."""
    torch.manual_seed(0)
    config = tiny_config(model_type, **changes)
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    ).eval()
    randomise_vectors(model)
    model.save_pretrained(folder)
    return model
