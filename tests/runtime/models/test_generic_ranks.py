"""Ranks that share transformers' own modules compute what one computes alone, by a plan or without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import ModelImplementation, Quantization
from octavo.errors import InvalidConfigurationError
from octavo.models.from_transformers import TransformersConfig
from octavo.models.registry import read_model_config
from octavo.models.sharing import check_sharing
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.generic_adapters import adaptable_modules
from tests.support.runtime.generic_models import make_generic_checkpoint, without_products
from tests.support.runtime.rank_threads import scores

# Why each rank has all of attention's heads; None: it has some. `make models` tries all others.
SHARED = {
    "gemma": None,  # a tied head
    "olmoe": None,  # norms over all heads, experts
    "gpt_oss": None,  # sinks; biases of experts; gate and up in turns
    "beam": r"self_attn\.gate_bias is of all heads",  # experts with a gate of their own
    "hy_v3": None,  # shared experts that checkpoints call otherwise
    "persimmon": "no plan",  # plain blocks with biases and LayerNorm
    "gpt2": "no plan",  # weights that lie transposed
}


@pytest.mark.parametrize("model_type", SHARED)
def test_ranks_score_as_one_does(model_type: str, tmp_path: Path) -> None:
    """Key heads of their own, and one for two ranks; a vocabulary that they share in unequal parts. With an
    adapter, and without."""
    torch.set_num_threads(1)
    folder, adapter = tmp_path / "model", tmp_path / "adapter"
    model = make_generic_checkpoint(folder, model_type)
    save_adapter(adapter, model, picks=adaptable_modules(folder, model).__contains__)
    config, why = read_model_config(folder, ModelImplementation.AUTO), SHARED[model_type]
    assert isinstance(config, TransformersConfig)
    told = config.sharing.whole_heads
    assert (told is None) if why is None else re.search(why, told or "")
    assert config.spec.on_rank(2).num_kv_heads == config.spec.num_kv_heads // (
        2 if told is None else 1
    )
    ((expected, hidden),) = scores(folder, 1, adapter=adapter)
    assert (expected[0] - expected[-2]).abs().max() > 0.05, "an adapter that nobody would notice"
    for size in (2, 4):
        found = scores(folder, size, adapter=adapter)
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


def test_a_family_of_which_nothing_would_be_cut_is_refused_by_name(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "gpt2", num_hidden_layers=2)
    model = without_products(read_model_config(tmp_path, ModelImplementation.AUTO))
    with pytest.raises(InvalidConfigurationError, match=r"none of their products.*size 1"):
        check_sharing(model, 2)


def test_a_norm_over_all_heads_is_known_by_what_it_gives(tmp_path: Path) -> None:
    """Which of it is rounded when, in 16 bits, differs."""
    found = {}
    for model_type in ("olmo2", "minimax_m2"):
        make_generic_checkpoint(tmp_path / model_type, model_type, num_hidden_layers=2)
        config = read_model_config(tmp_path / model_type, ModelImplementation.AUTO)
        assert isinstance(config, TransformersConfig)
        norms = config.outline.heads.norms
        assert [norm.width for norm in norms] == [64, 32, 64, 32]
        found[model_type] = {norm.rounds_first for norm in norms}
    assert found == {"olmo2": {False}, "minimax_m2": {True}}
