"""config.json: what is read, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.layers.mlp import Activation
from octavo.layers.rotary import RopeScaling
from octavo.models.base import ModelConfig
from octavo.models.families.gemma2 import Gemma2Config
from octavo.models.families.mixtral import MixtralConfig
from octavo.models.families.qwen3_moe import Qwen3MoeConfig
from octavo.models.read_experts import ExpertsConfig
from octavo.models.registry import read_model_config
from octavo.models.spec import Task

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "eos_token_id": 128001,
    "torch_dtype": "bfloat16",
}
QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "use_sliding_window": True,
    "sliding_window": 4096,
}
GEMMA2: dict[str, Any] = {
    "architectures": ["Gemma2ForCausalLM"],
    "hidden_size": 3584,
    "sliding_window": 4096,
}
MISTRAL: dict[str, Any] = {"architectures": ["MistralForCausalLM"]}
KINDS = ["sliding_attention", "full_attention"] * 16
QWEN3_MOE: dict[str, Any] = {"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 8}
NEOX: dict[str, Any] = {"architectures": ["GPTNeoXForCausalLM"], "rope_scaling": None}
MPT: dict[str, Any] = {"architectures": ["MPTForCausalLM"]}
FALCON: dict[str, Any] = {"architectures": ["FalconForCausalLM"], "rope_scaling": None}
GEMMA3: dict[str, Any] = {"architectures": ["Gemma3ForCausalLM"], "rope_scaling": None}
MIXTRAL: dict[str, Any] = {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8}


def read(folder: Path, *, drop: str | None = None, **changes: Any) -> ModelConfig:
    raw = {**LLAMA, **changes}
    if drop is not None:
        del raw[drop]
    (folder / "config.json").write_text(json.dumps(raw))
    return read_model_config(folder)


def test_llama_3_1_8b_is_read_in_full(tmp_path: Path) -> None:
    config = read(tmp_path)
    spec = config.spec
    assert (spec.num_kv_heads, spec.head_dim, spec.num_layers) == (8, 128, 32)
    (rope,) = spec.rotary
    assert rope.scaling is RopeScaling.LLAMA3
    assert (rope.theta, rope.original_max_position) == (500000.0, 8192)
    assert spec.context == 131072
    assert spec.stored_dtype == "bfloat16"
    assert spec.windows == (None,) * 32
    assert spec.task is Task.GENERATE
    assert 8.0e9 < config.num_parameters < 8.1e9


def test_mixtral_8x7b_is_read_in_full(tmp_path: Path) -> None:
    config = read(tmp_path, **MIXTRAL, vocab_size=32000, sliding_window=None)
    assert isinstance(config, MixtralConfig)
    assert (config.num_experts, config.num_experts_per_token) == (8, 2)
    assert config.spec.windows == (None,) * 32
    assert 46.6e9 < config.num_parameters < 46.8e9


def test_qwen3_30b_a3b_is_read_in_full(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        architectures=["Qwen3MoeForCausalLM"],
        head_dim=128,
        hidden_size=2048,
        intermediate_size=6144,
        moe_intermediate_size=768,
        norm_topk_prob=True,
        num_experts=128,
        num_experts_per_tok=8,
        num_hidden_layers=48,
        num_key_value_heads=4,
        rope_scaling=None,
        vocab_size=151936,
    )
    assert isinstance(config, Qwen3MoeConfig)
    assert config.experts == ExpertsConfig(count=128, per_token=8, width=768, is_normalised=True)
    assert all(config.has_experts)
    assert 30.4e9 < config.num_parameters < 30.6e9


@pytest.mark.parametrize(
    ("fields", "has_experts"),
    [
        ({}, [True] * 6),
        ({"decoder_sparse_step": 2}, [False, True] * 3),
        ({"mlp_only_layers": [0, 3]}, [False, True, True, False, True, True]),
        ({"decoder_sparse_step": 3, "mlp_only_layers": [2]}, [False] * 5 + [True]),
    ],
)
def test_some_layers_have_no_experts(
    tmp_path: Path, fields: dict[str, Any], has_experts: list[bool]
) -> None:
    config = read(tmp_path, **QWEN3_MOE, num_hidden_layers=6, **fields)
    assert isinstance(config, Qwen3MoeConfig)
    assert list(config.has_experts) == has_experts
    kept = config.with_layers([0, 2, 5])
    assert list(kept.has_experts) == [has_experts[layer] for layer in (0, 2, 5)]
    assert len(kept.projections()) == sum(2 + (16 if has else 2) for has in kept.has_experts)


def test_gemma_2_9b_is_read_in_full(tmp_path: Path) -> None:
    config = read(tmp_path, **GEMMA2, head_dim=256, query_pre_attn_scalar=224)
    assert isinstance(config, Gemma2Config)
    assert config.spec.windows == (4096, None) * 16
    assert (config.attention_softcap, config.logits_softcap) == (50.0, 30.0)
    assert config.attention_scale == pytest.approx(224**-0.5)
    assert config.activation is Activation.GELU_TANH
    assert config.tables.is_tied
    uncapped = read(tmp_path, **GEMMA2, attn_logit_softcapping=None)
    assert isinstance(uncapped, Gemma2Config)
    assert uncapped.attention_softcap is None


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        (MISTRAL, (4096,) * 32),
        ({**MISTRAL, "sliding_window": None}, (None,) * 32),
        ({**MISTRAL, "sliding_window": 512}, (512,) * 32),
        # AutoConfig takes these for a Ministral's, and so each layer by its kind.
        ({**MISTRAL, "layer_types": KINDS, "sliding_window": 512}, (512, None) * 16),
        ({**MISTRAL, "layer_types": ["full_attention"] * 32, "sliding_window": 512}, (None,) * 32),
        ({**MISTRAL, "layer_types": None, "sliding_window": 512}, (512,) * 32),
        ({**QWEN3, "use_sliding_window": False}, (None,) * 32),
        ({**QWEN3, "sliding_window": None}, (None,) * 32),
        (QWEN3, (None,) * 28 + (4096,) * 4),
        ({**QWEN3, "architectures": ["Qwen2ForCausalLM"], "max_window_layers": 0}, (4096,) * 32),
        ({**GEMMA3, "sliding_window": 512}, (*(512,) * 5, None) * 5 + (512,) * 2),
        ({**GEMMA3, "sliding_window_pattern": 2}, (4096, None) * 16),
        ({**GEMMA3, "layer_types": ["full_attention"] * 32}, (None,) * 32),
        ({**QWEN3, "layer_types": KINDS}, (4096, None) * 16),
    ],
)
def test_sliding_windows_are_read_as_transformers_reads_them(
    tmp_path: Path, changes: dict[str, Any], windows: tuple[int | None, ...]
) -> None:
    assert read(tmp_path, **changes).spec.windows == windows


def test_unknown_architecture_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupportedError) as error:
        read(tmp_path, architectures=["GPT2LMHeadModel"])
    for name in ("GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3ForCausalLM"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"rope_type": "proportional"}}, "proportional"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({**MPT, "attn_config": {"alibi": False}}, r"attn_config\.alibi is False"),
        ({**MPT, "attn_config": {"qk_ln": True}}, r"attn_config\.qk_ln is True"),
        ({**MPT, "attn_config": {"rope": True}}, r"what attn_config\.rope \(True\) means"),
        ({**MPT, "no_bias": False}, "no_bias is False"),
        ({**FALCON, "num_ln_in_parallel_attn": 2}, "transformers runs no such model"),
        (
            {**FALCON, "new_decoder_architecture": True, "num_ln_in_parallel_attn": 3},
            "num_ln_in_parallel_attn is 3",
        ),
        (
            {**FALCON, "new_decoder_architecture": True, "parallel_attn": False},
            "parallel_attn is False and new_decoder_architecture is True",
        ),
        ({**FALCON, "multi_query": False, "num_kv_heads": 4}, "each of the 32 heads has its own"),
        ({**GEMMA3, "use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({**GEMMA3, "attn_logit_softcapping": 50.0}, r"attn_logit_softcapping is 50\.0"),
        ({"architectures": ["PhiForCausalLM"], "qk_layernorm": True}, "qk_layernorm is true"),
        (
            {"architectures": ["Gemma2ForCausalLM"], "use_bidirectional_attention": True},
            "use_bidirectional_attention",
        ),
    ],
)
def test_what_would_answer_wrongly_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        read(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": "big"}, "hidden_size is 'big'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 5}, "multiple of"),
        ({"head_dim": 127}, "head_dim is 127"),
        ({"rms_norm_eps": True}, "rms_norm_eps"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"architectures": []}, "architectures"),
        ({**MISTRAL, "sliding_window": 0}, "sliding_window is 0"),
        ({**QWEN3, "layer_types": ["full_attention"]}, "layer_types"),
        ({**QWEN3, "layer_types": ["chunked_attention"] * 32}, "layer_types"),
        (
            {**QWEN3, "layer_types": ["chunked_attention"] * 32, "use_sliding_window": False},
            "layer_types",
        ),
        ({**MISTRAL, "layer_types": KINDS[1:]}, "layer_types must name"),
        (
            {**GEMMA2, "sliding_window": None},
            "sliding_window is null, and layers are called sliding",
        ),
        ({**QWEN3, "max_window_layers": -1}, "max_window_layers is -1"),
        ({**GEMMA2, "query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0; it must be above 0"),
        ({**GEMMA2, "attn_logit_softcapping": 0}, "attn_logit_softcapping is 0"),
        ({**MIXTRAL, "num_experts_per_tok": 9}, "num_experts_per_tok is 9"),
        ({**QWEN3_MOE, "num_experts_per_tok": 9}, "num_experts_per_tok is 9"),
        ({**QWEN3_MOE, "mlp_only_layers": "all"}, "mlp_only_layers is 'all'"),
        ({**QWEN3_MOE, "decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        (NEOX, "rope_theta is 500000.0; this architecture reads rotary_emb_base"),
        ({**NEOX, "rope_theta": None, "rotary_pct": 1.5}, "so that 192 of a head's 128"),
        ({**NEOX, "rope_theta": None, "rotary_pct": 0.01}, "so that 1 of a head's 128"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelInvalidError, match=words):
        read(tmp_path, **changes)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalidError, match="vocab_size"):
        read(tmp_path, drop="vocab_size")


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelInvalidError, match=r"config\.json"):
        read_model_config(tmp_path)


def test_a_missing_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalidError, match=r"no config\.json"):
        read_model_config(tmp_path)
