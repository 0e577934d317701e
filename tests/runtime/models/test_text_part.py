"""Checkpoints of models that see: their text part gives transformers' tokens; the rest is left alone."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from octavo.errors import ModelUnsupportedError
from octavo.models.registry import read_config
from octavo.models.text_part import _KINDS, TEXT_PARTS
from tests.support.runtime.checkpoints import VOCAB, randomise_vectors
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor

TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.25,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
CLIP: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 16,
}
CLIP |= {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
PIXTRAL = CLIP | {"model_type": "pixtral", "head_dim": 8}
QWEN_EYES: dict[str, Any] = {"depth": 1, "hidden_size": 32, "intermediate_size": 16, "num_heads": 2}
QWEN_EYES |= {"out_hidden_size": 48, "fullatt_block_indexes": [0]}
SIGLIP = CLIP | {"model_type": "siglip_vision_model"}
DEEPSTACK = QWEN_EYES | {"deepstack_visual_indexes": [0], "num_position_embeddings": 4}

# Of each class: the kind of its text, the text's fields, the config of its eyes.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Gemma3": ("gemma3_text", {"sliding_window": 7, "sliding_window_pattern": 2}, SIGLIP),
    "Llava": ("llama", {}, CLIP),
    "LlavaNext": ("mistral", {"sliding_window": 9}, CLIP),
    "Mistral3": ("mistral", {"sliding_window": None}, PIXTRAL),
    "Qwen2VL": (
        "qwen2_vl_text",
        {"rope_parameters": MROPE},
        {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 48},
    ),
    "Qwen2_5_VL": ("qwen2_5_vl_text", {"rope_parameters": MROPE}, QWEN_EYES),
    "Qwen3VL": (
        "qwen3_vl_text",
        {"rope_parameters": MROPE | {"mrope_interleaved": True}},
        DEEPSTACK,
    ),
}


def make(folder: Path, name: str) -> Any:
    kind, changes, eyes = KINDS[name]
    model_class = getattr(transformers, f"{name}ForConditionalGeneration")
    text = {**TEXT, **changes, "model_type": kind}
    config = model_class.config_class(
        text_config=text,
        vision_config=eyes,
        image_token_index=5,
        image_token_id=5,
        tie_word_embeddings=False,
    )
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = model_class(config).eval()
    randomise_vectors(model)
    model.save_pretrained(folder)
    return model


def test_every_class_is_tried() -> None:
    assert {f"{name}ForConditionalGeneration" for name in KINDS} == set(TEXT_PARTS)


@pytest.mark.parametrize("name", KINDS)
def test_text_gets_the_tokens_and_probabilities_of_the_whole_model(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_num_threads(1)
    model = make(tmp_path, name)
    with caplog.at_level(logging.WARNING, "octavo.loading.text_part"):
        executor = make_executor(tmp_path)
    assert "Text alone is served" in caplog.text
    answers = serve(tmp_path, executor, VOCAB)
    assert_as_transformers(answers, model)
    assert len({token for answer in answers for token in answer.output}) > 8


def renamed(folder: Path, old: str, new: str) -> None:
    path = folder / "model.safetensors"
    tensors = {name.replace(old, new): value for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def test_names_may_be_those_of_before_or_of_today(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = make(tmp_path, "Llava")
    names = set(load_file(tmp_path / "model.safetensors"))
    is_old = any(name.startswith("language_model.model.") for name in names)
    pair = ("language_model.model.", "model.language_model.")
    renamed(tmp_path, *(pair if is_old else reversed(pair)))
    assert_as_transformers(serve(tmp_path, make_executor(tmp_path), VOCAB), model)


def test_fields_of_the_text_may_stand_beside_the_others(tmp_path: Path) -> None:
    """As Qwen2.5-VL was published."""
    make(tmp_path, "Qwen2_5_VL")
    raw = json.loads((tmp_path / "config.json").read_text())
    flat = {**raw["text_config"], **raw, "model_type": "qwen2_5_vl", "vision_start_token_id": 9}
    flat["rope_scaling"] = {"type": "mrope", "mrope_section": [2, 3, 3]}
    flat["rope_theta"] = 1e4
    del flat["text_config"], flat["rope_parameters"]
    assert read_config(flat) == read_config(raw)


@pytest.mark.parametrize(
    ("architecture", "kind"), [(name, kind) for name, kinds in _KINDS.items() for kind in kinds]
)
def test_fields_that_a_file_leaves_out_are_those_of_transformers(
    architecture: str, kind: str
) -> None:
    config = transformers.AutoConfig.for_model(kind).get_text_config()
    full = json.loads(config.to_json_string(use_diff=False)) | {"model_type": kind}
    full["tie_word_embeddings"] = False
    raw: dict[str, Any] = {"architectures": [architecture], "text_config": {"model_type": kind}}
    raw["tie_word_embeddings"] = False
    config_of_all = read_config({**raw, "text_config": full})
    assert dataclasses.replace(read_config(raw), spec=config_of_all.spec) == config_of_all
    spec = dataclasses.replace(config_of_all.spec, stored_dtype="float32")
    assert read_config(raw).spec == spec


def test_a_scaling_where_nobody_reads_it_is_refused() -> None:
    kind, changes, _ = KINDS["Qwen2_5_VL"]
    raw: dict[str, Any] = {"architectures": ["Qwen2_5_VLForConditionalGeneration"]}
    raw["text_config"] = {**TEXT, **changes, "model_type": kind}
    yarn = {"type": "yarn", "factor": 4.0, "mrope_section": [2, 3, 3]}
    read_config({**raw, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}})
    with pytest.raises(ModelUnsupportedError, match=r"rope_scaling .* stands beside text_config"):
        read_config({**raw, "rope_scaling": yarn})


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (
            "mistral",
            {"layer_types": ["sliding_attention"] * 2, "sliding_window": 9},
            "layer_types and sliding_window",
        ),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, r"softcapping is 30\.0"),
    ],
)
def test_what_a_class_reads_of_a_text_model_alone_is_refused(
    kind: str, fields: dict[str, Any], words: str
) -> None:
    raw = {"architectures": ["LlavaForConditionalGeneration"]}
    with pytest.raises(ModelUnsupportedError, match=words):
        read_config({**raw, "text_config": {**TEXT, "model_type": kind, **fields}})


def test_another_text_model_is_refused_by_name() -> None:
    raw = {"architectures": ["LlavaForConditionalGeneration"], "text_config": {"model_type": "opt"}}
    with pytest.raises(
        ModelUnsupportedError, match=r"text_config\.model_type is 'opt'; implemented"
    ):
        read_config(raw)
