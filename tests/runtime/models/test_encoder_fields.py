"""config.json of encoders: what transformers and published checkpoints write is taken, and means the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from octavo.models.base import EncoderConfig
from octavo.models.registry import read_encoder_config
from octavo.models.spec import Task

CLASSES: dict[str, type[Any]] = {
    "Bert": transformers.BertConfig,
    "Camembert": transformers.CamembertConfig,
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


def test_a_decoder_is_no_encoder(tmp_path: Path) -> None:
    raw = json.loads(transformers.LlamaConfig().to_json_string(use_diff=False))
    (tmp_path / "config.json").write_text(
        json.dumps({**raw, "architectures": ["LlamaForCausalLM"]})
    )
    assert read_encoder_config(tmp_path) is None
