"""Adapters beside quantised weights give what transformers gives with them merged into the weights that these
stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from octavo.config import ModelImplementation, Quantization
from octavo.kernels.cpu.products.pack_panels import pack
from octavo.kernels.cpu.products.panel_rows import rows_of_panels
from octavo.kernels.cpu.products.weight_panels import PanelFormat
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.adapters import save_adapter, targets_of
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.quantised_checkpoints import (
    Tensors,
    awq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)

SHAPE: dict[str, Any] = {
    "vocab_size": 112,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
}
GROUP = 32


def rounded_at_load(folder: Path) -> tuple[Path, dict[str, object], Any]:
    """A plain checkpoint, what an executor of it with int8 is made with, and the model that it stands for."""
    model = make_checkpoint(folder / "plain", **SHAPE)
    for name in [*targets_of(model), "lm_head"]:
        weight = model.get_submodule(name).weight
        panels = pack(weight.detach(), PanelFormat.INT8)
        weight.data = rows_of_panels(panels, torch.arange(len(weight)), torch.float32)
    return folder / "plain", {"quantization": Quantization.INT8}, model


def stored_as_awq(folder: Path) -> tuple[Path, dict[str, object], Any]:
    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        grid = round_to_grid(weight, 4, GROUP)
        return awq_tensors(grid), grid.dequantize()

    make_checkpoint(folder / "plain", **SHAPE)
    config = {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}
    reference = quantise_checkpoint(
        folder / "plain", folder / "awq", store, config | {"group_size": GROUP}
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    return folder / "awq", {}, model


@pytest.mark.parametrize(
    ("quantised", "implementation"),
    [
        (rounded_at_load, ModelImplementation.OCTAVO),
        (stored_as_awq, ModelImplementation.OCTAVO),
        (stored_as_awq, ModelImplementation.TRANSFORMERS),
    ],
)
def test_adapters_add_to_products_with_quantised_weights(
    quantised: Any, implementation: ModelImplementation, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    base, options, model = quantised(tmp_path)
    place = tmp_path / "adapter"
    merged = save_adapter(place, model, rank=8)
    executor = make_executor(base, enable_lora=True, model_impl=implementation, **options)
    vocab = json.loads((base / "config.json").read_text())["vocab_size"]
    answers = serve(base, executor, vocab, {1: place})
    for adapter_id, expected in {0: model, 1: merged}.items():
        own = [answer for answer in answers if answer.adapter_id == adapter_id]
        assert_as_transformers(own, expected)
    outputs = [tuple(answer.output) for answer in answers]
    assert len(set(outputs)) > len(outputs) // 2, "the adapter changes what is said"
