"""Small models of any causal family that transformers has, with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

from octavo.models.base import ModelConfig
from octavo.models.from_transformers import TransformersConfig
from octavo.models.from_transformers.tensor_parallel import sharing_plan
from tests.support.runtime.checkpoints import GRANITE, VOCAB, randomise_vectors

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
# These count positions from the padding's place on, and a token of padding has none: no text has one.
_PADDED: dict[str, Any] = {"pad_token_id": VOCAB, "vocab_size": VOCAB + 1}
# What else a class insists on, and kinds of layers that are published and no default.
_OF_TYPES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("camembert", "data2vec-text", "roberta", "roberta-prelayernorm"), _PADDED),
    **dict.fromkeys(("xlm-roberta", "xlm-roberta-xl"), _PADDED),
    "minimax_m3_vl_text": {"layer_types": ["full_attention"] * 3 + ["minimax_m3_sparse"]},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "codegen": {"rotary_dim": 8},
    "dots1": {"n_shared_experts": 1},
    "dots3_note_text": {"num_key_value_heads": 4},
    "gemma3n_text": {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": VOCAB},
    "gemma4_text": {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": VOCAB},
    "granite": GRANITE,
    "gptj": {"rotary_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 23},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "reformer": {"is_decoder": True},
    "xmod": {**_PADDED, "languages": ["en_XX"], "default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
_MAX_PARAMETERS = 20_000_000
_NUM_LAYERS = 4


class UnmadeError(Exception):
    """No small model of this family can be made by the rules here."""


def tiny_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    """Of the text part of that type, with layers of each kind that the default has."""
    text_class = type(CONFIG_MAPPING[model_type]().get_text_config(decoder=True))
    default = text_class()
    fields = {name: value for name, value in _FIELDS.items() if _is_settable(default, name)}
    if hasattr(default, "qk_rope_head_dim"):
        fields.pop("head_dim", None)  # latent attention has sizes of its own
    if hasattr(default, "is_decoder") and getattr(default, "is_encoder_decoder", None) is False:
        fields["is_decoder"] = True
    fields.update(_OF_TYPES.get(model_type, {}))
    per_layer = {}
    for name in ("layer_types", "mlp_layer_types"):
        if name not in fields and _is_settable(default, name):
            kinds = getattr(default, name)
            per_layer[name] = _each_kind(kinds) if kinds else None
    try:
        return text_class(**{**per_layer, **fields, **changes})
    except AttributeError:  # some work them out from other fields
        return text_class(**{**fields, **changes})


def _is_settable(config: PreTrainedConfig, name: str) -> bool:
    """Some work a field out from others, or hold it for each layer."""
    found = getattr(type(config), name, None)
    if isinstance(found, property) and found.fset is None:
        return False
    try:
        return hasattr(config, name)
    except Exception:  # such as AmbiguousGlobalPerLayerAttributeError
        return False


def _each_kind(kinds: list[str]) -> list[str]:
    """The first layers, and in place of the last of them the kinds that come later."""
    first = list(kinds[:_NUM_LAYERS])
    later = [kind for kind in dict.fromkeys(kinds) if kind not in first]
    return first[: len(first) - len(later)] + later


def make_generic_checkpoint(folder: Path, model_type: str, **changes: Any) -> Any:
    """Saves such a model to `folder` and returns transformers' own instance of it, fp32.

    Raises `UnmadeError`.
    """
    torch.manual_seed(0)
    try:
        config = tiny_config(model_type, **changes)
        with torch.device("meta"):
            shapes = AutoModelForCausalLM.from_config(config)
        count = sum(parameter.numel() for parameter in shapes.parameters())
        if count > _MAX_PARAMETERS:
            raise UnmadeError(f"the smallest has {count} parameters")
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation="eager", dtype=torch.float32
        ).eval()
        randomise_vectors(model)
        if getattr(config, "pad_token_id", None) == VOCAB:
            model.get_output_embeddings().bias.data[VOCAB] = -1e4
        model.save_pretrained(folder)
    except UnmadeError:
        raise
    except Exception as error:
        raise UnmadeError(f"{type(error).__name__}: {error}") from error
    return model


def without_products(config: ModelConfig) -> ModelConfig:
    """As of a family none of whose modules is linear."""
    assert isinstance(config, TransformersConfig)
    outline = replace(config.outline, products=())
    return replace(config, outline=outline, sharing=sharing_plan(outline, {}))
