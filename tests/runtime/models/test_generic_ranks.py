"""Ranks that share transformers' own modules compute what one computes alone, by transformers' own plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import Device, EngineConfig, ModelImplementation, Quantization
from octavo.errors import InvalidConfigurationError
from octavo.worker.start.plan import plan_start
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.rank_threads import scores

# A tied head, products that are gathered and split, plain blocks with biases and LayerNorm, experts; `make
# models` tries all others.
SHARED = ("gemma", "glm4", "mellum", "starcoder2")
REFUSED = {
    "gpt2": "has no plan",
    "olmo2": "products of model.layers.0.self_attn are not cut by heads",
    "beam": "is no product that Octavo's own stands in for",
}


@pytest.mark.parametrize("model_type", SHARED)
def test_ranks_score_as_one_does(model_type: str, tmp_path: Path) -> None:
    """Key heads of their own, and one for two ranks; a vocabulary that they share in unequal parts."""
    torch.set_num_threads(1)
    make_generic_checkpoint(tmp_path, model_type)
    ((expected, hidden),) = scores(tmp_path, 1)
    for size in (2, 4):
        found = scores(tmp_path, size)
        torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-4)
        for _, each in found:
            torch.testing.assert_close(each, hidden, rtol=1e-4, atol=1e-4)


def test_families_of_our_own_are_shared_by_transformers_modules_too(tmp_path: Path) -> None:
    """And rounded weights with them."""
    torch.set_num_threads(1)
    make_generic_checkpoint(tmp_path, "llama")
    generic: dict[str, Any] = {
        "model_impl": ModelImplementation.TRANSFORMERS,
        "quantization": Quantization.INT8,
    }
    ((expected, _),) = scores(tmp_path, 1, **generic)
    torch.testing.assert_close(scores(tmp_path, 2, **generic)[0][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_has_no_plan_is_refused_by_name(model_type: str, tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, model_type)
    config = EngineConfig(model=str(tmp_path), device=Device.CPU, tensor_parallel_size=2)
    with pytest.raises(InvalidConfigurationError, match=rf"{REFUSED[model_type]}.*size 1"):
        plan_start(config)
