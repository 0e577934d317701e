"""How far transformers' modules know positions, whatever config.json says of their rotary embedding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Olmo2ForCausalLM

from octavo import LLM
from octavo.config import ModelImplementation
from octavo.models.registry import read_model_config
from tests.support.runtime.checkpoints import VOCAB, save_word_tokenizer
from tests.support.runtime.generic_models import make_generic_checkpoint

AUTO = ModelImplementation.AUTO
YARN = {"rope_type": "yarn", "factor": 4.0}
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cut short, so that starting costs little."""
    path = tmp_path_factory.mktemp("olmo2")
    make_generic_checkpoint(path, "olmo2", num_hidden_layers=2)
    save_word_tokenizer(path)
    return path


def stretched(folder: Path, into: Path, length: int, rope: dict[str, Any]) -> Path:
    raw = json.loads((folder / "config.json").read_text())
    raw.pop("rope_parameters")
    raw |= {"max_position_embeddings": length, "rope_scaling": rope}
    for name in ("model.safetensors", "tokenizer.json"):
        (into / name).symlink_to(folder / name)
    (into / "config.json").write_text(json.dumps(raw))
    return into


@pytest.mark.parametrize(
    ("length", "rope", "original", "context"),
    [
        (64, {"rope_type": "default"}, None, 64),
        (64, YARN, None, 256),
        (64, YARN, 64, 256),
        (256, YARN, 64, 256),
        (300, YARN, 64, 300),
        (64, {**YARN, "factor": 2.5}, 64, 160),
        (64, LINEAR, None, 256),
        (64, LLAMA3, None, 512),
        (131072, LLAMA3, 8192, 131072),
        (64, {"rope_type": "dynamic", "factor": 4.0}, None, 64),
        (256, LONGROPE, 64, 64),
    ],
)
def test_the_context_is_what_the_own_families_make_of_it(
    folder: Path,
    tmp_path: Path,
    length: int,
    rope: dict[str, Any],
    original: int | None,
    context: int,
) -> None:
    if original is not None:
        rope = {**rope, "original_max_position_embeddings": original}
    config = read_model_config(stretched(folder, tmp_path, length, rope), AUTO)
    assert config.is_generic
    assert config.spec.default_context == context


def test_where_kinds_of_layers_are_scaled_apart_the_length_includes_it(tmp_path: Path) -> None:
    kinds = {"full_attention": LINEAR, "sliding_attention": {"rope_type": "default"}}
    make_generic_checkpoint(tmp_path, "gemma3n_text", rope_parameters=kinds)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert read_model_config(tmp_path, AUTO).spec.context == raw["max_position_embeddings"]


@pytest.mark.parametrize("rope", [YARN, {"rope_type": "dynamic", "factor": 4.0}], ids=str)
def test_a_scaled_model_answers_to_the_end_of_its_context(
    folder: Path, tmp_path: Path, rope: dict[str, Any]
) -> None:
    stretched(folder, tmp_path, 32, rope)
    reference = Olmo2ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).model
    with LLM(str(tmp_path), dtype="float32", kv_cache_memory_bytes=2**22) as llm:
        seed = torch.Generator().manual_seed(0)
        prompt = torch.randint(3, VOCAB, (llm.max_model_len - 1,), generator=seed).tolist()
        (output,) = llm.embed([prompt])
    with torch.no_grad():
        hidden = reference(torch.tensor([prompt])).last_hidden_state[0, -1]
    expected = hidden / hidden.norm()
    torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)
