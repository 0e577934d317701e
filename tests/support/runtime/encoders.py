"""Small real encoders with random weights, made by transformers, with a tokenizer of BERT's kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.support.runtime.checkpoints import randomise_vectors

WORDS = "a man is eating food the girl carries baby pods run on nodes what why"
CLS, SEP, PAD = 3, 4, 1
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]

_KINDS: dict[str, tuple[Any, Any, Any, Any]] = {
    "bert": (
        transformers.BertConfig,
        transformers.BertModel,
        transformers.BertForMaskedLM,
        transformers.BertForSequenceClassification,
    ),
    "roberta": (
        transformers.RobertaConfig,
        transformers.RobertaModel,
        transformers.RobertaForMaskedLM,
        transformers.RobertaForSequenceClassification,
    ),
    "xlm-roberta": (
        transformers.XLMRobertaConfig,
        transformers.XLMRobertaModel,
        transformers.XLMRobertaForMaskedLM,
        transformers.XLMRobertaForSequenceClassification,
    ),
    "camembert": (
        transformers.CamembertConfig,
        transformers.CamembertModel,
        transformers.CamembertForMaskedLM,
        transformers.CamembertForSequenceClassification,
    ),
    "modernbert": (
        transformers.ModernBertConfig,
        transformers.ModernBertModel,
        transformers.ModernBertForMaskedLM,
        transformers.ModernBertForSequenceClassification,
    ),
    "nomic-bert": (
        transformers.NomicBertConfig,
        transformers.NomicBertModel,
        transformers.NomicBertForMaskedLM,
        transformers.NomicBertForSequenceClassification,
    ),
}
# What a kind needs beside the sizes: windows narrower than the prompts, special tokens of the vocabulary.
_OWN: dict[str, dict[str, Any]] = {
    "modernbert": {"local_attention": 12, "cls_token_id": CLS, "sep_token_id": SEP},
}
# Whose tokenizer tells the texts of a pair apart.
_WITH_SEGMENTS = ("bert", "nomic-bert")
KINDS = tuple(_KINDS)
BASE, MASKED_LM, SCORE = range(1, 4)


def make_encoder(folder: Path, kind: str, head: int = BASE, **changes: Any) -> Any:
    """Saves a tiny model with its tokenizer to `folder`; returns transformers' own instance, fp32."""
    config_class, model_class = _KINDS[kind][0], _KINDS[kind][head]
    values = {
        "vocab_size": 64,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": PAD,
        # Weights large enough that attention is peaked: with 0.02 every position looks alike.
        "initializer_range": 0.25,
        "bos_token_id": CLS,
        "eos_token_id": SEP,
        **_OWN.get(kind, {}),
    }
    if head == SCORE:
        values["num_labels"] = 1
    torch.manual_seed(0)
    config = config_class(**{**values, **changes}, attn_implementation="eager")
    model = model_class(config).eval()
    randomise_vectors(model)
    model.save_pretrained(folder)
    _tokenizer(INPUTS if kind in _WITH_SEGMENTS else INPUTS[:2]).save_pretrained(folder)
    return model


def write_modules(folder: Path, pooling: object, *more: str) -> None:
    """As sentence-transformers saves an embedder."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", **{f"2_{kind}": kind for kind in more}}
    steps = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for path, kind in kinds.items()
    ]
    (folder / "modules.json").write_text(json.dumps(steps))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))


def _tokenizer(inputs: list[str]) -> PreTrainedTokenizerFast:
    special = ["[UNK]", "[PAD]", "[MASK]", "[CLS]", "[SEP]"]
    vocab = {word: number for number, word in enumerate([*special, *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=inputs,
    )
