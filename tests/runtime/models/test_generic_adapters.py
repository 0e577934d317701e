"""Adapters of models that run by transformers' own modules: what they change, and what is refused by name.

That they give what transformers gives with them merged is tried of a sample of families, with their rows of
the table of models (`tests/docs/test_models_page.py`), and of all by `make models`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octavo.config import EngineConfig, ModelImplementation
from octavo.errors import InvalidConfigurationError, ModelUnsupportedError
from octavo.models.from_transformers.adapters import seen_rows
from octavo.models.registry import read_model_config
from octavo.worker.batch import HoldsAdapters
from octavo.worker.start.implementation import check_adapters
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint
from tests.support.runtime.generic_adapters import (
    MAX_RANK,
    adaptable_modules,
    assert_as_merged,
    other_modules,
    save_adapters,
)
from tests.support.runtime.generic_models import make_generic_checkpoint, without_products
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor

AUTO, TRANSFORMERS = ModelImplementation.AUTO, ModelImplementation.TRANSFORMERS


@pytest.mark.parametrize(
    ("model_type", "implementation"),
    [("gpt_bigcode", AUTO), ("gpt2", AUTO), ("qwen2", TRANSFORMERS)],
)
def test_adapters_of_many_ranks_in_one_batch_are_as_merged_ones(
    model_type: str, implementation: ModelImplementation, tmp_path: Path
) -> None:
    """Of one linear module for queries, keys and values, of weights that lie transposed, and of several
    modules that are one product; where Octavo has code of its own, too."""
    torch.set_num_threads(1)
    base = tmp_path / "base"
    if implementation is AUTO:
        model = make_generic_checkpoint(base, model_type, num_hidden_layers=2)
    else:
        model = make_checkpoint(base, model_type, num_hidden_layers=2)
    names = adaptable_modules(base, model, implementation)
    assert not other_modules(model, names)
    adapters, models = save_adapters(tmp_path, model, names)
    executor = make_executor(
        base, model_impl=implementation, enable_lora=True, max_lora_rank=MAX_RANK
    )
    assert_as_merged(base, executor, model.config.vocab_size, adapters, models)


def test_so_are_they_on_a_gpus_path(tmp_path: Path) -> None:
    """Recorded decodes too, of which some rows have adapters."""
    torch.set_num_threads(1)
    base = tmp_path / "base"
    model = make_generic_checkpoint(base, "olmo2", num_hidden_layers=2)
    adapters, models = save_adapters(tmp_path, model, adaptable_modules(base, model))
    executor = make_gpu_executor(base, implementation=AUTO, max_loras=2)
    assert_as_merged(base, executor, VOCAB, adapters, models)


@pytest.mark.parametrize(
    ("model_type", "others"),
    [
        (
            "ernie4_5_moe",
            {
                "lm_head": "the head",
                "model.embed_tokens": "an embedding",
                "model.layers.1.mlp.experts": "the experts of a layer",
                "model.layers.1.mlp.experts.0.up_proj": "or that the base model does not have",
                "model.layers.1.mlp.gate": "a module of the class Ernie4_5_MoeTopKRouter",
            },
        ),
        ("bert", {"cls.predictions.transform.dense": "a linear module behind the layers"}),
    ],
)
def test_what_adapters_do_not_change_is_refused_by_what_it_is(
    model_type: str, others: dict[str, str], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    make_generic_checkpoint(base, model_type, num_hidden_layers=2)
    executor = make_executor(base, model_impl=AUTO, enable_lora=True)
    assert isinstance(executor, HoldsAdapters)
    for number, (module, what) in enumerate(others.items(), start=1):
        words = re.escape(f"{module}.lora_A.weight is of ")
        with pytest.raises(ModelUnsupportedError, match=words) as error:
            executor.add_adapter(number, write_adapter(tmp_path / str(number), module, 4))
        assert what in str(error.value)


def test_an_adapter_may_be_of_the_model_without_its_head(tmp_path: Path) -> None:
    """Which calls its modules without what the whole model calls them with."""
    make_generic_checkpoint(tmp_path / "base", "bert", num_hidden_layers=1)
    executor = make_executor(tmp_path / "base", model_impl=AUTO, enable_lora=True)
    assert isinstance(executor, HoldsAdapters)
    module = "encoder.layer.0.attention.self.query"
    executor.add_adapter(1, write_adapter(tmp_path / "short", module, 64))
    executor.add_adapter(2, write_adapter(tmp_path / "long", f"bert.{module}", 64))


def write_adapter(folder: Path, module: str, width: int) -> str:
    """Of one module with as many outputs as inputs."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    shapes = {"A": (4, width), "B": (width, 4)}
    matrices = {f"{module}.lora_{half}.weight": torch.ones(shape) for half, shape in shapes.items()}
    save_file(matrices, folder / "adapter_model.safetensors")
    return str(folder)


def test_a_model_without_linear_modules_is_refused_at_the_start(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "gpt2", num_hidden_layers=2)
    model = without_products(read_model_config(tmp_path, AUTO))
    config = EngineConfig(model=str(tmp_path), enable_lora=True)
    with pytest.raises(
        InvalidConfigurationError, match=r"GPT2LMHeadModel.*none of which is.*Leave"
    ):
        check_adapters(config, model)


def test_modules_are_left_alone_that_see_a_token_elsewhere() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.straight, self.turned, self.doubled, self.constant = (
                torch.nn.Linear(2, 2) for _ in range(4)
            )

        def forward(self, x: torch.Tensor) -> None:
            self.straight(x)
            self.turned(x.flip(1))
            self.doubled(torch.cat([x, x], dim=1))
            self.constant(torch.ones_like(x))

    model, x = Model(), torch.ones(1, 7, 2)
    x[0, 2] = torch.nan
    names = [name for name, _ in model.named_children()]
    with seen_rows(model, names, poisoned=2, count=7) as seen:
        model(x)
    assert seen == {"straight"}
