"""Checkpoints of FP8 as DeepSeek, transformers and AutoFP8 store it say what their weights stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.kernels.reference.weight_only import Code
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.quantization import stored_format
from octavo.quantization.fp8 import Fp8
from octavo.quantization.stored import StoredLayout
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.quantised_checkpoints import (
    FAMILIES,
    SHAPE,
    Tensors,
    float8_weight,
    is_product,
    quantise_checkpoint,
)
from tests.support.runtime.scores import check_scores
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)


def quantised(
    folder: Path,
    config: dict[str, Any],
    family: str = "llama",
    *,
    block: tuple[int | None, int | None] = (None, None),
    scale: str = "weight_scale_inv",
    scale_shape: tuple[int, ...] | None = None,
    scale_dtype: torch.dtype = torch.float32,
    has_bytes: bool = False,
    extra: Tensors | None = None,
    kept: str = "nothing",
    **changes: Any,
) -> tuple[Path, Path]:
    """A checkpoint and the plain one that it stands for.

    Args:
        scale: Name of the scales.
        has_bytes: They are stored as bytes.
        extra: Tensors beside them.
        kept: Part of names of modules that stay.
    """
    torch.set_num_threads(1)
    make_checkpoint(folder / "plain", family, **(SHAPE | FAMILIES[family] | changes))

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module) or kept in module:
            return None
        codes, scales, dequantised = float8_weight(weight, *block, scale_dtype)
        if scale_shape is not None:
            scales = scales.reshape(scale_shape)
        if has_bytes:
            scales = scales.view(torch.uint8)
        beside = {name: value.clone() for name, value in (extra or {}).items()}
        return {"weight": codes, scale: scales, **beside}, dequantised

    target = folder / "fp8"
    return target, quantise_checkpoint(
        folder / "plain", target, store, {"quant_method": "fp8"} | config
    )


@pytest.mark.parametrize("family", ["llama", "qwen2_moe"])
def test_scores_are_those_of_the_dequantised_weights(family: str, tmp_path: Path) -> None:
    config = {"weight_block_size": [32, 32], "activation_scheme": "dynamic", "fmt": "e4m3"}
    check_scores(*quantised(tmp_path, config, family, block=(32, 32)), vocab=112)


@pytest.mark.parametrize("block", [(16, 64), (48, 40), (128, 128), (7, 8)])
def test_blocks_need_not_divide_a_weight(block: tuple[int, int], tmp_path: Path) -> None:
    config = {"weight_block_size": list(block)}
    check_scores(*quantised(tmp_path, config, block=block), vocab=112)


@pytest.mark.parametrize("scale", ["weight_scale", "weight_scale_inv"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_scale_may_be_a_whole_weights(
    scale: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """As AutoFP8 writes it, with a scale of the activations; as transformers does, with a null block."""
    config = {"activation_scheme": "static", "ignored_layers": ["lm_head"]}
    if scale == "weight_scale_inv":
        config["weight_block_size"] = None  # type: ignore[assignment]
    extra = {"input_scale": torch.tensor([0.01])}
    paths = quantised(tmp_path, config, scale=scale, scale_shape=shape, extra=extra)
    check_scores(*paths, vocab=112)


def test_one_scale_may_be_an_outputs(tmp_path: Path) -> None:
    check_scores(*quantised(tmp_path, {}, block=(1, None), scale="weight_scale"), vocab=112)


def test_one_scale_may_be_an_outputs_as_fbgemm_has_it(tmp_path: Path) -> None:
    """Meta's Llama 3.1 405B."""
    config: dict[str, Any] = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}
    config["modules_to_not_convert"] = ["model.layers.0", "lm_head"]
    paths = quantised(
        tmp_path, config, block=(1, None), scale="weight_scale", kept="model.layers.0"
    )
    check_scores(*paths, vocab=112)
    stored = stored_format(config)
    assert stored.layout("model.layers.0.mlp.up_proj", 64) is None
    assert stored.layout("model.layers.1.mlp.up_proj", 64) == StoredLayout(Code.FLOAT8, None)


@pytest.mark.parametrize("has_bytes", [False, True])
def test_scales_may_be_powers_of_two_in_a_byte(has_bytes: bool, tmp_path: Path) -> None:
    config = {"weight_block_size": [32, 32], "scale_fmt": "ue8m0"}
    paths = quantised(
        tmp_path,
        config,
        block=(32, 32),
        scale_dtype=torch.float8_e8m0fnu,
        has_bytes=has_bytes,
    )
    check_scores(*paths, vocab=112)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scales_may_have_16_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    config = {"weight_block_size": [32, 32]}
    paths = quantised(tmp_path, config, block=(32, 32), scale_dtype=dtype)
    check_scores(*paths, vocab=112)


def test_modules_that_are_kept_stand_beside_those_that_are_not(tmp_path: Path) -> None:
    config = {"weight_block_size": [32, 32], "modules_to_not_convert": ["k_proj"]}
    check_scores(*quantised(tmp_path, config, block=(32, 32), kept="k_proj"), vocab=112)


def test_what_is_stored_counts_where_the_list_says_another(tmp_path: Path) -> None:
    config = {"weight_block_size": [32, 32], "modules_to_not_convert": ["k_proj"]}
    check_scores(*quantised(tmp_path, config, block=(32, 32), kept="v_proj"), vocab=112)


def test_blocks_are_taken_as_transformers_takes_them() -> None:
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(3))
    codes, scales, dequantised = float8_weight(weight, 32, 16)
    theirs = Fp8Dequantize(None)._dequantize_one(codes, scales, torch.float32)
    assert torch.equal(theirs, dequantised)


def test_float8_without_its_scales_is_no_weight(tmp_path: Path) -> None:
    """Without quantization_config, or where a scale was lost: read as numbers they would be wrong ones."""
    make_checkpoint(tmp_path / "plain", "llama", **SHAPE)

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        return ({"weight": weight.to(torch.float8_e4m3fn)}, weight) if is_product(module) else None

    quantise_checkpoint(tmp_path / "plain", tmp_path / "lost", store, {})
    with pytest.raises(ModelInvalidError, match=r"q_proj\.weight is torch\.float8_e4m3fn, not a"):
        make_executor(tmp_path / "lost")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fmt": "e5m2"}, "fmt is 'e5m2'; implemented is e4m3"),
        ({"expert_dtype": "fp4"}, "expert_dtype is 'fp4'"),
        ({"scale_fmt": "e4m3"}, "scale_fmt is 'e4m3'"),
        ({"modules_to_convert": ["embed"]}, "modules_to_convert"),
        ({"rotation": "hadamard"}, "what rotation"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        stored_format({"quant_method": "fp8"} | fields)


@pytest.mark.parametrize("sizes", [[128], [0, 128], [128, 128, 1]])
def test_damaged_blocks_are_named(sizes: list[int]) -> None:
    with pytest.raises(ModelInvalidError, match="weight_block_size is"):
        stored_format({"quant_method": "fp8", "weight_block_size": sizes})


PUBLISHED = [
    # Qwen/Qwen3-8B-FP8
    (
        {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8"}
        | {"weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]},
        Fp8((128, 128), ("lm_head",), "dynamic"),
    ),
    # neuralmagic/Meta-Llama-3-8B-Instruct-FP8
    (
        {"activation_scheme": "static", "quant_method": "fp8", "ignored_layers": ["lm_head"]},
        Fp8(None, ("lm_head",), "static"),
    ),
]


@pytest.mark.parametrize(("raw", "expected"), PUBLISHED)
def test_published_configs_are_taken(raw: dict[str, object], expected: Fp8) -> None:
    assert stored_format(raw) == expected
    group = None if expected.block is None else 128
    inputs = RoundedInputs(group, is_static=expected.activations == "static")
    layout = StoredLayout(Code.FLOAT8, group, inputs=inputs)
    assert expected.layout("model.layers.0.mlp.up_proj", 256) == layout
    assert expected.layout("lm_head", 256) is None
