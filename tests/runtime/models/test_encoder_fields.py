"""config.json of encoders: what transformers and published checkpoints write is taken, and means the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from octavo.errors import ModelUnsupportedError
from octavo.models.base import EncoderConfig
from octavo.models.registry import read_encoder_config
from octavo.models.spec import Task

CLASSES: dict[str, type[Any]] = {
    "Bert": transformers.BertConfig,
    "Camembert": transformers.CamembertConfig,
    "ModernBert": transformers.ModernBertConfig,
    "NomicBert": transformers.NomicBertConfig,
    "Roberta": transformers.RobertaConfig,
    "XLMRoberta": transformers.XLMRobertaConfig,
}
# What config.json of these says beside the sizes.
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "all-MiniLM-L6-v2": (
        "BertModel",
        {"gradient_checkpointing": False, "position_embedding_type": "absolute"},
    ),
    "bge-small-en-v1.5": (
        "BertModel",
        {
            "classifier_dropout": None,
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
            "torch_dtype": "float32",
        },
    ),
    "LaBSE": (
        "BertModel",
        {
            "directionality": "bidi",
            "pooler_fc_size": 768,
            "pooler_num_attention_heads": 12,
            "pooler_num_fc_layers": 3,
            "pooler_size_per_head": 128,
            "pooler_type": "first_token_transform",
        },
    ),
    "multilingual-e5-base": ("XLMRobertaModel", {"output_past": True, "type_vocab_size": 1}),
    "all-distilroberta-v1": ("RobertaForMaskedLM", {"type_vocab_size": 1}),
    "gte-modernbert-base": (
        "ModernBertModel",
        {
            "classifier_pooling": "mean",
            "global_attn_every_n_layers": 3,
            "global_rope_theta": 160000.0,
            "gradient_checkpointing": False,
            "layer_norm_eps": 1e-05,
            "layer_types": None,
            "local_rope_theta": 10000.0,
            "position_embedding_type": "absolute",
            "reference_compile": True,
            "repad_logits_with_grad": False,
            "rope_parameters": None,
        },
    ),
    "gte-reranker-modernbert-base": (
        "ModernBertForSequenceClassification",
        {"classifier_pooling": "mean", "id2label": {"0": "LABEL_0"}},
    ),
    "ms-marco-MiniLM-L6-v2": (
        "BertForSequenceClassification",
        {
            "id2label": {"0": "LABEL_0"},
            "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
        },
    ),
    "bge-reranker-base": (
        "XLMRobertaForSequenceClassification",
        {"id2label": {"0": "LABEL_0"}, "type_vocab_size": 1, "output_past": True},
    ),
}


def raw_of(architecture: str, **fields: Any) -> dict[str, Any]:
    stem = next(stem for stem in CLASSES if architecture.startswith(stem))
    raw = json.loads(CLASSES[stem]().to_json_string(use_diff=False))
    return {**raw, "architectures": [architecture], **fields}


def read(folder: Path, raw: dict[str, Any]) -> EncoderConfig:
    (folder / "config.json").write_text(json.dumps(raw))
    config = read_encoder_config(folder)
    assert config is not None
    return config


@pytest.mark.parametrize("stem", sorted(CLASSES))
def test_a_missing_field_means_what_it_means_to_transformers(stem: str, tmp_path: Path) -> None:
    full = raw_of(f"{stem}Model")
    kept = (
        "architectures",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    )
    short = {name: full[name] for name in kept}
    assert read(tmp_path, short) == read(tmp_path, full)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_checkpoints_are_taken(name: str, tmp_path: Path) -> None:
    architecture, fields = PUBLISHED[name]
    task = Task.SCORE if architecture.endswith("Classification") else Task.EMBED
    assert read(tmp_path, raw_of(architecture, **fields)).spec.task is task


# As its first implementation wrote it, nothing of transformers' names beside.
NOMIC_EMBED_TEXT: dict[str, Any] = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "bos_token_id": None,
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "fused_bias_fc": True,
    "fused_dropout_add_ln": True,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_head": 12,
    "n_inner": 3072,
    "n_layer": 12,
    "n_positions": 8192,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.0,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "torch_dtype": "float32",
    "type_vocab_size": 2,
    "use_cache": True,
    "use_flash_attn": True,
    "use_rms_norm": False,
    "use_xentropy": True,
    "vocab_size": 30528,
}


def test_names_of_the_first_nomic_berts_mean_the_same(tmp_path: Path) -> None:
    """transformers' class is of that very model, with all its sizes."""
    assert read(tmp_path, NOMIC_EMBED_TEXT) == read(tmp_path, raw_of("NomicBertModel"))
    (wider,) = read(tmp_path, {**NOMIC_EMBED_TEXT, "rotary_emb_base": 7.0}).spec.rotary
    assert wider.theta == 7.0
    other = read(tmp_path, {**NOMIC_EMBED_TEXT, "n_embd": 96, "n_head": 3, "n_inner": 40}).spec
    assert (other.hidden_size, other.head_dim, other.inner_size) == (96, 32, 40)


@pytest.mark.parametrize(
    ("architecture", "fields", "words"),
    [
        ("NomicBertModel", {"rotary_scaling_factor": 2.0}, r"rotary_scaling_factor is 2\.0"),
        ("NomicBertModel", {"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ("NomicBertModel", {"qkv_proj_bias": True}, "qkv_proj_bias is True"),
        ("NomicBertModel", {"moe_every_n_layers": 2}, "moe_every_n_layers"),
        ("NomicBertModel", {"head_dim": 32}, "head_dim is 32"),
        (
            "ModernBertModel",
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
            "which layers",
        ),
        (
            "ModernBertModel",
            {
                "rope_parameters": {
                    "full_attention": {
                        "rope_type": "longrope",
                        "factor": 2.0,
                        "short_factor": [1.0] * 32,
                        "long_factor": [2.0] * 32,
                        "original_max_position_embeddings": 4096,
                    }
                }
            },
            "longrope",
        ),
        ("ModernBertModel", {"classifier_pooling": "max"}, "classifier_pooling is 'max'"),
    ],
)
def test_what_would_embed_wrongly_is_refused(
    architecture: str, fields: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        read(tmp_path, raw_of(architecture, **fields))


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        ({}, [None, 65, 65] * 7 + [None]),
        ({"layer_types": None, "global_attn_every_n_layers": 2}, [None, 65] * 11),
        ({"local_attention": 10}, [None, 6, 6] * 7 + [None]),
        # transformers' property, which is half of it.
        ({"sliding_window": 4}, [None, 5, 5] * 7 + [None]),
        ({"layer_types": ["full_attention"] * 22}, [None] * 22),
    ],
)
def test_modernberts_windows_are_those_of_transformers(
    fields: dict[str, Any], windows: list[int | None], tmp_path: Path
) -> None:
    raw = raw_of("ModernBertModel", **fields)
    assert list(read(tmp_path, raw).spec.windows) == windows
    config = transformers.ModernBertConfig.from_dict(json.loads(json.dumps(raw)))
    width = config.sliding_window + 1
    kinds = [width if kind == "sliding_attention" else None for kind in config.layer_types]
    assert kinds == windows


def test_a_decoder_is_no_encoder(tmp_path: Path) -> None:
    raw = json.loads(transformers.LlamaConfig().to_json_string(use_diff=False))
    (tmp_path / "config.json").write_text(
        json.dumps({**raw, "architectures": ["LlamaForCausalLM"]})
    )
    assert read_encoder_config(tmp_path) is None
