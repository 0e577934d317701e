"""Fields of config.json: published ones are taken, those that may change the mathematics are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.models.config_reader import ConfigReader
from octavo.models.harmless_fields import is_harmless
from octavo.models.registry import FAMILIES, read_config

CLASSES: dict[str, Any] = {
    "Bloom": transformers.BloomConfig,
    "MPT": transformers.MptConfig,
    "Mpt": transformers.MptConfig,
    "GPTNeoX": transformers.GPTNeoXConfig,
    "Falcon": transformers.FalconConfig,
    "Gemma2": transformers.Gemma2Config,
    "Gemma3": transformers.Gemma3TextConfig,
    "Llama": transformers.LlamaConfig,
    "Mistral": transformers.MistralConfig,
    "Mixtral": transformers.MixtralConfig,
    "Phi": transformers.PhiConfig,
    "Phi3": transformers.Phi3Config,
    "Qwen2": transformers.Qwen2Config,
    "Qwen2Moe": transformers.Qwen2MoeConfig,
    "Qwen3": transformers.Qwen3Config,
    "Qwen3Moe": transformers.Qwen3MoeConfig,
}
# What published checkpoints carry beside the fields of today's classes.
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama-2-7b": (
        "Llama",
        {
            "_name_or_path": "meta-llama/Llama-2-7b-hf",
            "pretraining_tp": 1,
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "max_length": 4096,
            "pad_token_id": 0,
        },
    ),
    "SmolLM2-135M": (
        "Llama",
        {
            "is_llama_config": True,
            "rope_interleaved": False,
            "rope_theta": 100000,
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
        },
    ),
    "Yarn-Llama-2-7b-64k": (
        "Llama",
        {
            "auto_map": {"AutoModelForCausalLM": "modeling_llama_together_yarn.LlamaForCausalLM"},
            "rope_scaling": {
                "factor": 16.0,
                "original_max_position_embeddings": 4096,
                "type": "yarn",
                "finetuned": True,
            },
        },
    ),
    "Mistral-7B-v0.1": ("Mistral", {"sliding_window": 4096, "rope_theta": 10000.0}),
    "Mistral-Nemo": ("Mistral", {"sliding_window": None, "head_dim": 128, "rope_theta": 1e6}),
    "Mixtral-8x7B": ("Mixtral", {"sliding_window": None, "output_router_logits": False}),
    "Qwen2-1.5B": (
        "Qwen2",
        {
            "use_mrope": False,
            "use_sliding_window": False,
            "max_window_layers": 28,
            "sliding_window": 32768,
        },
    ),
    "Qwen2.5-7B-Instruct-1M": (
        "Qwen2",
        {
            "dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192},
            "max_window_layers": 28,
            "sliding_window": 32768,
            "use_sliding_window": False,
        },
    ),
    "Qwen3-0.6B": (
        "Qwen3",
        {"rope_scaling": None, "use_sliding_window": False, "max_window_layers": 28},
    ),
    "gemma-2-9b": (
        "Gemma2",
        {
            "cache_implementation": "hybrid",
            "hidden_act": "gelu_pytorch_tanh",
            "sliding_window_size": 4096,
        },
    ),
    "pythia-160m": (
        "GPTNeoX",
        {"rotary_emb_base": 10000, "rotary_pct": 0.25, "rope_parameters": None},
    ),
    "gpt-neox-20b": (
        "GPTNeoX",
        {
            "attention_probs_dropout_prob": 0,
            "hidden_dropout_prob": 0,
            "rotary_emb_base": 10000,
            "rotary_pct": 0.25,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.25,
            "rope_parameters": None,
        },
    ),
    "phi-2": (
        "Phi",
        {
            "hidden_size": 2560,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.4,
            "rope_parameters": None,
            "num_key_value_heads": None,
        },
    ),
    "phi-1_5, as it was first published": (
        "Phi",
        {
            "auto_map": {"AutoConfig": "configuration_phi.PhiConfig"},
            "rope_parameters": None,
            "partial_rotary_factor": 0.5,
        },
    ),
    "Phi-3.5-mini": (
        "Phi3",
        {
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
            "attention_bias": False,
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "rope_parameters": None,
            "rope_scaling": {
                "long_factor": [1.08] * 48,
                "short_factor": [1.0] * 48,
                "type": "longrope",
            },
            "rope_theta": 10000.0,
            "sliding_window": 262144,
        },
    ),
    "Phi-4": ("Phi3", {"rope_scaling": None, "rope_theta": 250000, "sliding_window": None}),
    "Phi-4-mini": (
        "Phi3",
        {
            "full_attn_mod": 1,
            "interpolate_factor": 1,
            "lm_head_bias": False,
            "mlp_bias": False,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "partial_rotary_factor": 0.75,
            "max_position_embeddings": 131072,
            "rope_parameters": None,
            "rope_scaling": {
                "long_factor": [1.0] * 48,
                "short_factor": [1.0] * 48,
                "type": "longrope",
            },
            "sliding_window": 262144,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen1.5-MoE-A2.7B": (
        "Qwen2Moe",
        {"use_sliding_window": False, "max_window_layers": 21, "sliding_window": 32768},
    ),
    "Qwen3-30B-A3B": (
        "Qwen3Moe",
        {
            "head_dim": 128,
            "max_window_layers": 48,
            "rope_scaling": None,
            "sliding_window": None,
            "use_sliding_window": False,
        },
    ),
    "gemma-3-1b": (
        "Gemma3",
        {
            "attn_logit_softcapping": None,
            "cache_implementation": "hybrid",
            "final_logit_softcapping": None,
            "layer_types": None,
            "rope_local_base_freq": 10000,
            "rope_parameters": None,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
        },
    ),
    "falcon-7b": (
        "Falcon",
        {
            "apply_residual_connection_post_layernorm": False,
            "multi_query": True,
            "num_kv_heads": 71,
            "rope_parameters": None,
        },
    ),
    "falcon-40b": (
        "Falcon",
        {
            "apply_residual_connection_post_layernorm": False,
            "hidden_size": 8192,
            "new_decoder_architecture": True,
            "num_attention_heads": 128,
            "num_kv_heads": 8,
            "rope_parameters": None,
        },
    ),
    "falcon-11B": (
        "Falcon",
        {
            "ff_factor": 4,
            "ffn_hidden_size": 16384,
            "hidden_size": 4096,
            "max_position_embeddings": 8192,
            "new_decoder_architecture": True,
            "num_attention_heads": 32,
            "num_kv_heads": 8,
            "num_ln_in_parallel_attn": 1,
            "rope_parameters": None,
            "rope_theta": 500042,
        },
    ),
    "falcon-rw-1b": (
        "Falcon",
        {
            "alibi": True,
            "apply_residual_connection_post_layernorm": False,
            "bias": True,
            "hidden_size": 2048,
            "multi_query": False,
            "num_attention_heads": 32,
            "num_kv_heads": None,
            "parallel_attn": False,
            "rope_parameters": None,
        },
    ),
    "bloom-7b1": (
        "Bloom",
        {
            "attention_softmax_in_fp32": True,
            "bias_dropout_fusion": True,
            "hidden_size": None,
            "masked_softmax_fusion": True,
            "n_embed": 4096,
            "num_attention_heads": 32,
            "offset_alibi": 100,
            "pretraining_tp": 1,
            "seq_length": 2048,
            "skip_bias_add": True,
            "skip_bias_add_qkv": False,
            "unk_token_id": 0,
        },
    ),
    "mpt-7b-storywriter": (
        "MPT",
        {
            "attn_config": {
                "alibi": True,
                "alibi_bias_max": 16,
                "attn_impl": "torch",
                "attn_pdrop": 0,
                "attn_type": "multihead_attention",
                "attn_uses_sequence_id": False,
                "clip_qkv": 6,
                "prefix_lm": False,
                "qk_ln": False,
                "softmax_scale": None,
            },
            "auto_map": {"AutoConfig": "configuration_mpt.MPTConfig"},
            "embedding_fraction": 1.0,
            "init_config": {"name": "kaiming_normal_", "fan_mode": "fan_in"},
            "init_device": "cpu",
            "max_seq_len": 65536,
            "tokenizer_name": "EleutherAI/gpt-neox-20b",
            "verbose": 0,
        },
    ),
    "Falcon3-7B, a Llama": (
        "Llama",
        {
            "attention_bias": False,
            "head_dim": 256,
            "hidden_size": 3072,
            "intermediate_size": 23040,
            "num_attention_heads": 12,
            "num_hidden_layers": 28,
            "num_key_value_heads": 4,
            "rope_parameters": None,
            "rope_theta": 1000042,
        },
    ),
    "a Llama that was a Qwen": (
        "Llama",
        {
            "use_sliding_window": False,
            "sliding_window": 32768,
            "max_window_layers": 28,
            "quantization_config": {},
            "attention_bias": None,
            "tie_word_embeddings": None,
        },
    ),
    "a Llama whose layers all see everything": (
        "Llama",
        {"layer_types": ["full_attention"] * 32, "rope_scaling": {"rope_type": None}},
    ),
    "gemma-2 saved with its pattern": ("Gemma2", {"_sliding_window_pattern": 2}),
    "an adapted one": ("Llama", {"unsloth_version": "2025.1.1", "unsloth_fixed": True}),
    "an old one": (
        "Llama",
        {
            "do_sample": True,
            "temperature": 0.9,
            "top_p": 0.6,
            "num_beams": 1,
            "bad_words_ids": None,
            "tie_encoder_decoder": False,
            "is_decoder": False,
            "add_cross_attention": False,
            "pruned_heads": {},
            "torchscript": False,
        },
    ),
}


POST_NORM = "apply_residual_connection_post_layernorm"


def raw_of(family: str, **fields: Any) -> dict[str, Any]:
    raw = json.loads(CLASSES[family]().to_json_string(use_diff=False))
    return {**raw, "architectures": [f"{family}ForCausalLM"], **fields}


def test_the_families_are_these() -> None:
    assert {f"{family}ForCausalLM" for family in CLASSES} == set(FAMILIES)


@pytest.mark.parametrize("family", sorted(CLASSES))
def test_what_transformers_writes_by_default_is_taken(family: str) -> None:
    read_config(raw_of(family))


@pytest.mark.parametrize("family", sorted(CLASSES))
def test_a_missing_field_means_what_it_means_to_transformers(family: str) -> None:
    """All but the sizes and the end tokens left out."""
    full = raw_of(family)
    kept = (
        "architectures",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "eos_token_id",
    )
    assert read_config({name: full[name] for name in kept if name in full}) == read_config(full)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_checkpoints_are_taken(name: str) -> None:
    family, fields = PUBLISHED[name]
    read_config(raw_of(family, **fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"logit_scale": 0.0625}, r"logit_scale \(0\.0625\)"),
        ({"residual_multiplier": 0.22}, "residual_multiplier"),
        ({"use_qk_norm": True}, "use_qk_norm"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ({"attention_chunk_size": 8192}, "attention_chunk_size"),
        ({"is_causal": False}, "is_causal"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"a": 1, "b": 2}, r"a \(1\), b \(2\)"),
    ],
)
def test_what_may_change_the_mathematics_is_refused_by_name(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        read_config(raw_of("Llama", **fields))


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        (
            "Bloom",
            {"slow_but_exact": True, "pretraining_tp": 2},
            "slow_but_exact is true.*tp above",
        ),
        ("Bloom", {POST_NORM: True}, f"{POST_NORM} is true: .* Octavo does not compute"),
        ("Falcon", {POST_NORM: True}, f"{POST_NORM} is true: .* Octavo does not compute"),
    ],
)
def test_what_is_known_and_not_computed_is_refused_as_that(
    family: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        read_config(raw_of(family, **fields))
    for name in fields:  # each needs the other
        if len(fields) > 1:
            read_config(raw_of(family, **{name: fields[name]}))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(CLASSES)),
    st.text("abcdefghijklmnopqrstuvwxyz_", min_size=2, max_size=24),
    st.one_of(st.booleans(), st.integers(1, 9), st.floats(0.1, 2.0), st.text(max_size=5)),
)
def test_a_field_that_nobody_knows_is_refused(family: str, name: str, value: object) -> None:
    raw = raw_of(family)
    reader = ConfigReader(raw)
    FAMILIES[f"{family}ForCausalLM"](reader)
    if name in raw or name in reader._read or is_harmless(name, value):
        return
    with pytest.raises(ModelUnsupportedError, match=name):
        read_config({**raw, name: value})
    read_config({**raw, name: None})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "1"], ids=str)
def test_a_number_is_finite(value: object) -> None:
    for look_up in (ConfigReader.number, ConfigReader.epsilon):
        with pytest.raises(ModelInvalidError, match=r"part\.eps is .*; it must be a"):
            look_up(ConfigReader({"eps": value}, "part"), "eps", 1.0)


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_no_norm_adds_less_than_nothing(architecture: str) -> None:
    """Every family's norm; a square's mean that is below 0 has no root, and all scores would be NaN."""
    raw = raw_of(architecture.removesuffix("ForCausalLM"))
    names = [name for name in raw if name.endswith(("eps", "epsilon"))]
    assert names
    for name in names:
        with pytest.raises(ModelInvalidError, match=f"{name} is -0.1; it must be 0 or more"):
            read_config(raw | {name: -0.1})
