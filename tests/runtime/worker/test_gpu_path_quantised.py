"""Quantised weights on the execution path of a GPU: what the dequantised model says, end to end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from octavo.config import Quantization
from octavo.errors import ModelUnsupportedError
from octavo.kernels.reference import device as reference
from octavo.kernels.reference.weight_only import quantize_float8, quantize_int4, quantize_int8
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import Running, make_gpu_executor
from tests.support.runtime.quantised_checkpoints import (
    FAMILIES,
    SHAPE,
    Store,
    Tensors,
    awq_tensors,
    float8_weight,
    gptq_tensors,
    is_product,
    packed_tensors,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.two_layer_models import run

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from tests.support.kernels.interpreter import interpreted_kernels

Stored = tuple[Tensors, torch.Tensor] | None


def awq(name: str, weight: torch.Tensor) -> Stored:
    if not is_product(name):
        return None
    grid = round_to_grid(weight, 4, 32)
    return awq_tensors(grid), grid.dequantize()


def act_order(name: str, weight: torch.Tensor) -> Stored:
    """Queries and keys in one order, values in another."""
    if not is_product(name):
        return None
    generator = torch.Generator().manual_seed(len(name) if "v_proj" in name else 1)
    order = torch.randperm(weight.shape[1], generator=generator)
    grid = round_to_grid(weight, 4, 32, order=order)
    return gptq_tensors(grid, 4, zero_offset=1), grid.dequantize()


def act_order_of_experts(name: str, weight: torch.Tensor) -> Stored:
    """Each expert's own orders, gate's and up's the same."""
    return _in_order_of(name.replace("w3", "w1"), weight)


def act_order_of_each(name: str, weight: torch.Tensor) -> Stored:
    return _in_order_of(name, weight)


def _in_order_of(name: str, weight: torch.Tensor) -> Stored:
    if not is_product(name):
        return None
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    order = torch.randperm(weight.shape[1], generator=generator)
    grid = round_to_grid(weight, 4, 32, order=order)
    return gptq_tensors(grid, 4, zero_offset=1), grid.dequantize()


def eight_bits(name: str, weight: torch.Tensor) -> Stored:
    if "down" in name or not is_product(name):
        return None
    grid = round_to_grid(weight, 8, None, is_symmetric=True)
    return packed_tensors(grid, 8, has_zeros=False), grid.dequantize()


def float8(name: str, weight: torch.Tensor) -> Stored:
    if not is_product(name):
        return None
    codes, scales, dequantised = float8_weight(weight, 32, 32)
    return {"weight": codes, "weight_scale_inv": scales}, dequantised


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False}
CHANNELS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FORMATS: Mapping[str, tuple[str, Store, dict[str, Any]]] = {
    "awq": ("llama", awq, {"quant_method": "awq", "bits": 4, "group_size": 32}),
    "gptq": ("qwen2", act_order, GPTQ),
    "experts in orders": ("mixtral", act_order_of_experts, GPTQ),
    "compressed-tensors": (
        "gemma2",
        eight_bits,
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": CHANNELS}},
            "ignore": ["lm_head", "re:.*down.*"],
        },
    ),
    "experts": ("mixtral", awq, {"quant_method": "awq", "bits": 4, "group_size": 32}),
    "shared expert": (
        "qwen2_moe",
        float8,
        {"quant_method": "fp8", "weight_block_size": [32, 32], "modules_to_not_convert": ["gate"]},
    ),
    "fp8": ("phi3", float8, {"quant_method": "fp8", "weight_block_size": [32, 32]}),
}


def assert_same(ours: list[Running], theirs: list[Running]) -> None:
    for own, expected in zip(ours, theirs, strict=True):
        assert own.output == expected.output
        for token, other in zip(own.tokens, expected.tokens, strict=True):
            assert token.top_token_ids == other.top_token_ids
            assert token.top_logprobs == pytest.approx(other.top_logprobs, abs=1e-3)


# Of Triton's kernels those that read quantised weights; the others take most of the time.
_PRODUCTS_ALONE: Any = SimpleNamespace(**vars(reference) | {"packed_linear": gpu.packed_linear})
_EXPERTS_ALONE: Any = SimpleNamespace(
    **vars(reference)
    | {
        "packed_experts_gate_up": gpu.packed_experts_gate_up,
        "packed_experts_down": gpu.packed_experts_down,
    }
)
_KERNELS: Mapping[str, Any] = {
    "awq": _PRODUCTS_ALONE,
    "gptq": gpu,
    "experts in orders": _EXPERTS_ALONE,
}


def interpreted(folder: Path, kernels: Any, **options: Any) -> list[Running]:
    # Of an H100's programs most would find nothing to do.
    with interpreted_kernels(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8):
        return run(make_gpu_executor(folder, kernels=kernels, max_num_seqs=4, **options))


def of_reference(folder: Path, **options: Any) -> list[Running]:
    return run(make_gpu_executor(folder, kernels=reference, max_num_seqs=4, **options))


def make_plain(folder: Path, family: str, **changes: Any) -> Path:
    torch.set_num_threads(1)
    make_checkpoint(folder, family, num_hidden_layers=2, **(SHAPE | FAMILIES[family] | changes))
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantised_checkpoint_says_what_the_dequantised_one_does(
    name: str, tmp_path: Path
) -> None:
    family, store, config = FORMATS[name]
    plain = make_plain(tmp_path / "plain", family, tie_word_embeddings=False)
    dequantised = quantise_checkpoint(plain, tmp_path / "quantised", store, config)
    expected = of_reference(dequantised)

    assert_same(of_reference(tmp_path / "quantised"), expected)
    if name in _KERNELS:
        assert_same(interpreted(tmp_path / "quantised", _KERNELS[name]), expected)
    # That something was quantised at all shows in what the plain one says.
    with pytest.raises(AssertionError):
        assert_same(of_reference(plain), expected)


def test_experts_whose_gate_and_up_have_orders_of_their_own_are_refused(tmp_path: Path) -> None:
    plain = make_plain(tmp_path / "plain", "mixtral")
    quantise_checkpoint(plain, tmp_path / "quantised", act_order_of_each, GPTQ)
    with pytest.raises(ModelUnsupportedError, match=r"desc_act.*--device cpu"):
        make_gpu_executor(tmp_path / "quantised", kernels=reference)


@pytest.mark.parametrize(
    ("rounding", "is_tied"),
    [
        (Quantization.INT8, False),
        (Quantization.INT4, False),
        (Quantization.INT4, True),
        (Quantization.FP8, False),
    ],
)
def test_rounding_at_load_gives_what_was_rounded_before(
    rounding: Quantization, is_tied: bool, tmp_path: Path
) -> None:
    """The head has eight bits; one that is tied stays as it is."""
    plain = make_plain(tmp_path / "plain", "qwen3", tie_word_embeddings=is_tied)
    quantize: Mapping[Quantization, Callable[[torch.Tensor], Any]] = {
        Quantization.INT8: quantize_int8,
        Quantization.INT4: quantize_int4,
        Quantization.FP8: quantize_float8,
    }

    def rounded(name: str, weight: torch.Tensor) -> Stored:
        form = quantize[Quantization.INT8 if "lm_head" in name else rounding]
        found = form(weight).dequantize()
        return {"weight": found}, found

    expected = of_reference(quantise_checkpoint(plain, tmp_path / "rounded", rounded, {}))

    assert_same(of_reference(plain, quantization=rounding), expected)
    if rounding is Quantization.INT4 and not is_tied:
        assert_same(interpreted(plain, _PRODUCTS_ALONE, quantization=rounding), expected)
    with pytest.raises(AssertionError):
        assert_same(of_reference(plain), expected)
