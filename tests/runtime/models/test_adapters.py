"""Adapters beside a model give what transformers gives with them merged into its weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.errors import ModelInvalidError
from octavo.loading.adapter import WEIGHTS_NAME
from octavo.worker.batch import HoldsAdapters
from tests.support.runtime.adapters import save_adapter, targets_of
from tests.support.runtime.drawn_models import FAMILIES, drawn_checkpoint
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_adapters_of_many_ranks_in_one_batch_are_as_merged_ones(
    family: str, tmp_path: Path
) -> None:
    """Beside each other and the model alone, and though all their prompts begin alike."""
    torch.set_num_threads(1)
    base = tmp_path / "base"
    model = drawn_checkpoint(base, family, 0)
    names = targets_of(model)
    first, last = names[0].rpartition(".")[2], names[-1]
    models = {
        0: model,
        1: save_adapter(tmp_path / "every", model, rank=3, seed=1),
        2: save_adapter(
            tmp_path / "some",
            model,
            rank=8,
            seed=2,
            # Of products side by side one alone.
            picks=lambda module: module.rpartition(".")[2] == first or module == last,
            use_rslora=True,
            rank_pattern={last: 20},
            alpha_pattern={first: 5},
        ),
    }
    executor = make_executor(base, enable_lora=True, max_lora_rank=20)
    adapters = {1: tmp_path / "every", 2: tmp_path / "some"}
    answers = serve(base, executor, model.config.vocab_size, adapters)
    for adapter_id, merged in models.items():
        own = [answer for answer in answers if answer.adapter_id == adapter_id]
        assert_as_transformers(own, merged)
    outputs = [tuple(answer.output) for answer in answers]
    assert len(set(outputs)) > len(outputs) // 2, "adapters change what is said"


@pytest.mark.parametrize(
    ("dtype", "factors", "words"),
    [
        ("float32", (1e25, 1.0), "lora_A.weight reaches"),
        ("float32", (1.0, 1e25), "lora_B.weight times its scale"),
        ("bfloat16", (1e14, 1e14), "lora_B.weight times lora_A.weight"),
    ],
)
def test_matrices_that_overflow_are_refused_by_name(
    dtype: str, factors: tuple[float, float], words: str, tmp_path: Path
) -> None:
    """Each is finite, and what they give would not be."""
    model = drawn_checkpoint(tmp_path / "base", "llama", 0)
    save_adapter(tmp_path / "huge", model)
    file = tmp_path / "huge" / WEIGHTS_NAME
    huge = {
        key: tensor * factors["lora_B" in key] if "k_proj" in key else tensor
        for key, tensor in load_file(file).items()
    }
    save_file(huge, file)
    executor = make_executor(tmp_path / "base", enable_lora=True, dtype=dtype)
    assert isinstance(executor, HoldsAdapters)
    with pytest.raises(ModelInvalidError, match=re.escape(words)) as error:
        executor.add_adapter(1, str(tmp_path / "huge"))
    assert str(error.value).startswith(f"{file}: model.layers.0.self_attn.k_proj.")
