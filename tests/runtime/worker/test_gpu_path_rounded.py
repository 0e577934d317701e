"""Activations in FP8 on the execution path of a GPU: what compressed-tensors' own forward says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import transformers

from octavo.kernels.reference import device as reference
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.gpu_path import Running, make_gpu_executor
from tests.support.runtime.quantised_checkpoints import (
    Tensors,
    float8_weight,
    is_product,
    quantise_checkpoint,
)
from tests.support.runtime.two_layer_models import checkpoint, errors, mean_size, run

needs_module(Requirement.TRITON)
needs_module(Requirement.COMPRESSED_TENSORS)
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationScheme,
    QuantizationStatus,
)
from compressed_tensors.quantization.lifecycle.forward import set_forward_quantized

from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from tests.support.kernels.interpreter import interpreted_kernels

FLOAT = {"num_bits": 8, "type": "float", "symmetric": True}
TOKEN = FLOAT | {"strategy": "token", "dynamic": True}
STATIC = FLOAT | {"strategy": "tensor", "dynamic": False}
GROUPS = FLOAT | {"strategy": "group", "group_size": 128, "dynamic": True}
# Those that share an input have one scale, as who calibrates them finds it.
STATIC_SCALES = {"o_proj": 0.004, "down_proj": 0.03}
USUAL_SCALE = 0.01

# Outputs and inputs of a block of the weight, the activations, and the checkpoint's own words for both.
SCHEMES: Mapping[str, tuple[tuple[int | None, int | None], dict[str, Any], dict[str, Any]]] = {
    "compressed-tensors, token": (
        (1, None),
        TOKEN,
        {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": FLOAT | {"strategy": "channel"},
                    "input_activations": TOKEN,
                }
            },
            "ignore": ["lm_head"],
        },
    ),
    "fp8, static": (
        (None, None),
        STATIC,
        {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]},
    ),
    "fp8, blocks": (
        (128, 128),
        GROUPS,
        {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": ["lm_head"],
        },
    ),
}


def static_scale(module: str) -> torch.Tensor:
    return torch.tensor([STATIC_SCALES.get(module.rpartition(".")[2], USUAL_SCALE)])


def make(folder: Path, name: str, family: str = "qwen2") -> tuple[Path, Any, Any]:
    """The checkpoint; the model with its weights; the same one, with activations rounded."""
    block, activations, config = SCHEMES[name]
    changes = {"hidden_size": 256, "intermediate_size": 384, "tie_word_embeddings": False}
    checkpoint(folder / "plain", family, changes)

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        codes, scales, dequantised = float8_weight(weight, *block)
        kind = "weight_scale_inv" if activations is GROUPS else "weight_scale"
        beside = {"input_scale": static_scale(module)} if activations is STATIC else {}
        return {"weight": codes, kind: scales, **beside}, dequantised

    target = folder / "fp8"
    dequantised = quantise_checkpoint(folder / "plain", target, store, config)
    exact, rounded = (
        transformers.AutoModelForCausalLM.from_pretrained(
            dequantised, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        for _ in range(2)
    )
    scheme = QuantizationScheme(
        targets=["Linear"],
        weights=QuantizationArgs(**FLOAT, strategy="channel"),
        input_activations=QuantizationArgs(**activations),
    )
    for module_name, module in rounded.named_modules():
        if isinstance(module, torch.nn.Linear) and is_product(module_name):
            module.quantization_scheme = scheme
            # Weights are what they stand for already.
            module.quantization_status = QuantizationStatus.COMPRESSED
            module.input_scale = static_scale(module_name)
            set_forward_quantized(module)
    return target, exact, rounded


def said(folder: Path, kernels: Any = reference, **options: Any) -> list[Running]:
    return run(make_gpu_executor(folder, kernels=kernels, max_num_seqs=4, **options))


@pytest.mark.parametrize("name", SCHEMES)
def test_activations_are_rounded_as_the_checkpoint_says(name: str, tmp_path: Path) -> None:
    """A number that lies between two of e4m3 may go to either, by the last bit of the sum that it is: so the
    two forwards differ, but by less than their rounding."""
    folder, exact, rounded = make(tmp_path, name)
    ours = said(folder, rounds_inputs=True)
    rounding = mean_size(errors(ours, exact))
    assert mean_size(errors(ours, rounded)) < rounding / 4
    assert mean_size(errors(said(folder), exact)) < 1e-4 < rounding / 20


@pytest.mark.parametrize("name", ["compressed-tensors, token", "fp8, blocks"])
def test_kernels_round_as_their_reference_does(name: str, tmp_path: Path) -> None:
    folder, exact, rounded = make(tmp_path, name, "llama")
    kernels: Any = SimpleNamespace(**vars(reference) | {"scaled_linear": gpu.scaled_linear})
    with interpreted_kernels(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8):
        ours = said(folder, kernels, rounds_inputs=True)
    assert mean_size(errors(ours, rounded)) < mean_size(errors(ours, exact)) / 4
