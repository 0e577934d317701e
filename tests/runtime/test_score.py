"""`LLM.score` against transformers' sequence classification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from octavo import LLM
from octavo.errors import InvalidParameterError, ModelUnsupportedError
from tests.support.runtime.encoders import KINDS, SCORE, make_encoder

QUERY = "what is a man eating"
DOCUMENTS = ["the man is eating food", "pods run on nodes", "a girl", "food is eating a man"]


def expected(folder: Path, reference: Any) -> torch.Tensor:
    """Scores before their activation, one pair at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = [
            reference(**tokenizer(QUERY, document, return_tensors="pt")).logits[0, 0]
            for document in DOCUMENTS
        ]
    return torch.stack(logits)


def scores(folder: Path) -> torch.Tensor:
    with LLM(str(folder), dtype="float32", device="cpu") as llm:
        return torch.tensor([output.outputs.score for output in llm.score(QUERY, DOCUMENTS)])


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    reference = make_encoder(tmp_path, kind, SCORE)
    logits = expected(tmp_path, reference)
    assert logits.std() > 0.05
    torch.testing.assert_close(scores(tmp_path), logits.sigmoid(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_modernberts_head_reads_the_pooling_that_it_names(pooling: str, tmp_path: Path) -> None:
    reference = make_encoder(
        tmp_path,
        "modernbert",
        SCORE,
        classifier_pooling=pooling,
        classifier_activation="relu",
        classifier_bias=True,
        norm_bias=True,
    )
    logits = expected(tmp_path, reference)
    torch.testing.assert_close(scores(tmp_path), logits.sigmoid(), rtol=1e-5, atol=1e-5)


def test_segments_are_told_where_the_tokenizer_makes_them(tmp_path: Path) -> None:
    reference = make_encoder(tmp_path, "bert", SCORE)
    told = expected(tmp_path, reference)
    change(tmp_path / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    logits = expected(tmp_path, reference)
    assert (logits - told).abs().max() > 0.1
    torch.testing.assert_close(scores(tmp_path), logits.sigmoid(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_the_activation_is_what_the_checkpoint_names(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    reference = make_encoder(tmp_path, "bert", SCORE)
    change(tmp_path / "config.json", **fields)
    torch.testing.assert_close(
        scores(tmp_path), expected(tmp_path, reference), rtol=1e-5, atol=1e-5
    )


def save_as_cross_encoder(folder: Path, *steps: str, **options: object) -> None:
    """What sentence-transformers 6 writes beside the model."""
    kinds = [{"path": "", "type": f"sentence_transformers.base.modules.{one}"} for one in steps]
    (folder / "modules.json").write_text(json.dumps(kinds))
    values = {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None, **options}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(values))


IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize(
    ("options", "is_plain"),
    [
        ({"activation_fn": IDENTITY}, True),
        (
            {"activation_fn": SIGMOID, "prompts": {"query": ""}, "default_prompt_name": "query"},
            False,
        ),
        # Of an embedder, which a cross-encoder's function is none of.
        ({"activation_fn": SIGMOID, "model_type": "SentenceTransformer"}, True),
    ],
)
def test_what_sentence_transformers_saves_beside_config_json_comes_first(
    options: dict[str, Any], is_plain: bool, tmp_path: Path
) -> None:
    reference = make_encoder(tmp_path, "bert", SCORE)
    change(tmp_path / "config.json", sentence_transformers={"activation_fn": IDENTITY})
    save_as_cross_encoder(tmp_path, "Transformer", **options)
    logits = expected(tmp_path, reference)
    torch.testing.assert_close(
        scores(tmp_path), logits if is_plain else logits.sigmoid(), rtol=1e-5, atol=1e-5
    )


def test_steps_and_prompts_of_a_cross_encoder_are_refused(tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert", SCORE)
    save_as_cross_encoder(tmp_path, "Transformer", "Dense")
    with pytest.raises(ModelUnsupportedError, match="the steps are Transformer, Dense"):
        scores(tmp_path)
    save_as_cross_encoder(tmp_path, "Transformer", default_prompt_name="q", prompts={"q": "why"})
    with pytest.raises(ModelUnsupportedError, match="default_prompt_name is 'q'"):
        scores(tmp_path)
    save_as_cross_encoder(tmp_path, "Transformer", activation_fn="torch.nn.modules.Tanh")
    with pytest.raises(ModelUnsupportedError, match=r"is 'torch\.nn\.modules\.Tanh'"):
        scores(tmp_path)


def test_texts_are_paired_as_vllm_pairs_them(tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert", SCORE)
    with LLM(str(tmp_path), device="cpu") as llm:
        one_for_all = llm.score([QUERY], DOCUMENTS)
        one_each = llm.score([QUERY] * 4, DOCUMENTS)
        assert [one.outputs for one in one_for_all] == [one.outputs for one in one_each]
        assert len(llm.score(QUERY, DOCUMENTS[0])) == 1
        with pytest.raises(InvalidParameterError, match="2 texts in text_1 and 4 in text_2"):
            llm.score([QUERY] * 2, DOCUMENTS)
        with pytest.raises(InvalidParameterError, match="text_2 is a text or a list of texts"):
            llm.score(QUERY, [3])  # type: ignore[list-item]
        with pytest.raises(InvalidParameterError, match="half of a surrogate pair"):
            llm.score("\ud800", DOCUMENTS)
        with pytest.raises(InvalidParameterError, match="the context holds 128"):
            llm.score(QUERY, "food " * 128)
        with pytest.raises(ModelUnsupportedError, match="gives no embedding"):
            llm.embed(QUERY)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "id2label names 2 labels"),
        ({"id2label": None}, "id2label names 2 labels"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, "torch.nn.Tanh"),
        ({"sentence_transformers": {"activation_fn": "their.Identity"}}, "their.Identity"),
    ],
)
def test_what_would_score_wrongly_is_refused(
    fields: dict[str, Any], words: str, tmp_path: Path
) -> None:
    make_encoder(tmp_path, "bert", SCORE)
    change(tmp_path / "config.json", **fields)
    with pytest.raises(ModelUnsupportedError, match=words):
        scores(tmp_path)
