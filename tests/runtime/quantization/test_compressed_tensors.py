"""Checkpoints of LLM Compressor's formats say what the weights they stand for say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.errors import ModelInvalidError
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.llm_compressor import ACTIVATIONS, config_of, group, weights
from tests.support.runtime.quantised_checkpoints import (
    FAMILIES,
    SHAPE,
    Store,
    Tensors,
    float8_weight,
    int8_tensors,
    is_product,
    packed_tensors,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.scores import check_scores
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)

MXFP4 = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "symmetric": True}
Order = Callable[[str, int], torch.Tensor | None]


def packed(of: dict[str, Any], order: Order | None = None, has_order: bool = True) -> Store:
    """By a group's `weights`."""

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        depth = weight.shape[1]
        found = None if order is None else order(module, depth)
        grid = round_to_grid(
            weight,
            of["num_bits"],
            of["group_size"] if of["strategy"] == "group" else None,
            is_symmetric=of["symmetric"],
            order=found,
            scale_dtype=torch.bfloat16,
        )
        tensors = packed_tensors(
            grid, of["num_bits"], has_zeros=not of["symmetric"], has_order=has_order and bool(order)
        )
        return tensors, grid.dequantize()

    return store


def quantised(
    folder: Path, config: dict[str, Any], store: Store, family: str = "llama", **changes: Any
) -> tuple[Path, Path]:
    """A checkpoint and the plain one that it stands for."""
    torch.set_num_threads(1)
    make_checkpoint(folder / "plain", family, **(SHAPE | FAMILIES[family] | changes))
    target = folder / "stored"
    return target, quantise_checkpoint(folder / "plain", target, store, config)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_scores_are_those_of_the_dequantised_weights(
    bits: int, symmetric: bool, tmp_path: Path
) -> None:
    of = weights(bits, symmetric=symmetric)
    check_scores(*quantised(tmp_path, config_of(group(weights=of)), packed(of)), vocab=112)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_scale_may_be_an_outputs(bits: int, symmetric: bool, tmp_path: Path) -> None:
    of = weights(bits, strategy="channel", group_size=None, symmetric=symmetric)
    check_scores(*quantised(tmp_path, config_of(group(weights=of)), packed(of)), vocab=112)


def test_mxfp4_is_what_compressed_tensors_reads(tmp_path: Path) -> None:
    needs_module(Requirement.COMPRESSED_TENSORS)
    from compressed_tensors.compressors.mxfp4 import MXFP4PackedCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**MXFP4))

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        width, depth = weight.shape
        exponents = torch.randint(121, 125, (width, depth // 32), dtype=torch.uint8)
        codes = torch.randint(256, (width, depth // 2), dtype=torch.uint8)
        tensors = {"weight_packed": codes, "weight_scale": exponents}
        return tensors, MXFP4PackedCompressor.decompress(tensors, scheme)["weight"].float()

    config = config_of(group(weights=MXFP4), format="mxfp4-pack-quantized")
    check_scores(*quantised(tmp_path, config, store), vocab=112)


def by_input(module: str, depth: int) -> torch.Tensor:
    """Queries, keys and values have one, as a quantiser gives them."""
    return torch.randperm(depth, generator=torch.Generator().manual_seed(depth))


def by_module(module: str, depth: int) -> torch.Tensor:
    return torch.randperm(
        depth, generator=torch.Generator().manual_seed(len(module) * ord(module[-6]))
    )


@pytest.mark.parametrize("actorder", ["group", "dynamic", True])
@pytest.mark.parametrize("order", [by_input, by_module])
def test_inputs_are_put_into_the_order_of_their_groups(
    order: Order, actorder: object, tmp_path: Path
) -> None:
    of = weights(symmetric=False, actorder=actorder)
    config = config_of(group(weights=of))
    check_scores(*quantised(tmp_path, config, packed(of, order)), vocab=112)


@pytest.mark.parametrize("actorder", ["weight", "static", False])
def test_an_order_of_the_calibration_alone_stores_none(actorder: object, tmp_path: Path) -> None:
    of = weights(actorder=actorder)
    check_scores(*quantised(tmp_path, config_of(group(weights=of)), packed(of)), vocab=112)


def test_an_order_that_was_never_set_is_none(tmp_path: Path) -> None:
    of = weights(actorder="group")

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if (found := packed(of)(module, weight)) is None:
            return None
        unset = torch.full((weight.shape[1],), -1, dtype=torch.int32)
        return found[0] | {"weight_g_idx": unset}, found[1]

    check_scores(*quantised(tmp_path, config_of(group(weights=of)), store), vocab=112)


def float8(outputs: int | None, inputs: int | None, shape: tuple[int, ...] | None = None) -> Store:
    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        codes, scales, dequantised = float8_weight(weight, outputs, inputs, torch.bfloat16)
        tensors = {"weight": codes, "weight_scale": scales if shape is None else scales.view(shape)}
        return tensors | {"input_scale": torch.tensor([0.02])}, dequantised

    return store


FLOAT8: dict[str, tuple[dict[str, Any], Store]] = {
    "tensor": ({"strategy": "tensor"}, float8(None, None, (1,))),
    "tensor, no dimension": ({"strategy": "tensor"}, float8(None, None, ())),
    "channel": ({"strategy": "channel"}, float8(1, None)),
    "group": ({"strategy": "group", "group_size": 32}, float8(1, 32)),
    "block": ({"strategy": "block", "block_structure": [32, 16]}, float8(32, 16)),
    "block as text": ({"strategy": "block", "block_structure": "48x40"}, float8(48, 40)),
}


@pytest.mark.parametrize("name", sorted(FLOAT8))
def test_float8_weights_take_activations_as_they_are(name: str, tmp_path: Path) -> None:
    fields, store = FLOAT8[name]
    of = weights(8, type="float", **({"group_size": None} | fields))
    static = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    config = config_of(group(weights=of, input_activations=static), format="float-quantized")
    check_scores(*quantised(tmp_path, config, store), vocab=112)


@pytest.mark.parametrize("family", ["mixtral", "gpt_neox", "phi3", "qwen3_moe"])
def test_float8_families(family: str, tmp_path: Path) -> None:
    of = weights(8, type="float", strategy="channel", group_size=None)
    config = config_of(group(weights=of, input_activations=ACTIVATIONS), format="float-quantized")
    check_scores(*quantised(tmp_path, config, float8(1, None), family), vocab=112)


def test_mixtrals_experts_as_llm_compressor_names_them(tmp_path: Path) -> None:
    of = weights(8, type="float", strategy="channel", group_size=None)
    config = config_of(group(weights=of, input_activations=ACTIVATIONS), format="float-quantized")
    paths = quantised(tmp_path, config, float8(1, None), "mixtral")
    file = paths[0] / "model.safetensors"
    names = {".w1.": ".gate_proj.", ".w3.": ".up_proj.", ".w2.": ".down_proj."}
    tensors = load_file(file)
    for old, new in names.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    save_file(tensors, file)
    check_scores(*paths, vocab=112)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("bits", "family"), [(4, "llama"), (8, "qwen3_moe")])
def test_int8_weights_are_read_whole(
    bits: int, family: str, symmetric: bool, tmp_path: Path
) -> None:
    of = weights(bits, strategy="channel", group_size=None, symmetric=symmetric)

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        grid = round_to_grid(weight, bits, is_symmetric=symmetric)
        return int8_tensors(grid, bits, has_zeros=not symmetric), grid.dequantize()

    token = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
    config = config_of(group(weights=of, input_activations=token), format="int-quantized")
    check_scores(*quantised(tmp_path, config, store, family), vocab=112)


def test_each_module_has_the_weights_of_its_nearest_group(tmp_path: Path) -> None:
    """A name counts before an expression, an expression before a class."""
    four, eight = weights(4), weights(8, symmetric=False, group_size=16)
    named = "model.layers.1.mlp.down_proj"
    config = config_of(
        group("Linear", r"re:.*layers\.1\..*q_proj", weights=four),
        group(r"re:.*mlp.*", r"re:.*k_proj$", weights=eight),
    )
    config["config_groups"]["group_0"]["targets"].append(named)

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        is_eight = ("mlp" in module or module.endswith("k_proj")) and module != named
        return packed(eight if is_eight else four)(module, weight)

    check_scores(*quantised(tmp_path, config, store), vocab=112)


def test_groups_may_be_of_different_formats(tmp_path: Path) -> None:
    four = weights(4)
    eight = weights(8, type="float", strategy="channel", group_size=None)
    config = config_of(
        group(r"re:.*self_attn.*", weights=four, format="pack-quantized"),
        group(r"re:.*mlp.*", weights=eight, format="float-quantized"),
        format="mixed-precision",
    )

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        return (float8(1, None) if "mlp" in module else packed(four))(module, weight)

    check_scores(*quantised(tmp_path, config, store), vocab=112)


@pytest.mark.parametrize("ignore", [["model.layers.0.self_attn.k_proj"], [r"re:.*k_proj"], []])
def test_what_is_stored_counts_beside_what_is_ignored(ignore: list[str], tmp_path: Path) -> None:
    of = weights()

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        return None if "0.self_attn.k_proj" in module else packed(of)(module, weight)

    config = config_of(group(weights=of), ignore=ignore)
    check_scores(*quantised(tmp_path, config, store), vocab=112)


def test_a_head_may_be_quantised_too(tmp_path: Path) -> None:
    of = weights(8, strategy="channel", group_size=None)

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        return packed(of)("a product" if module == "lm_head" else module, weight)

    config = config_of(group(weights=of), ignore=[])
    check_scores(*quantised(tmp_path, config, store), vocab=112)


def test_scales_of_a_cache_are_not_needed(tmp_path: Path) -> None:
    of = weights()
    scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    config = config_of(group(weights=of), kv_cache_scheme=scheme)
    folder, reference = quantised(tmp_path, config, packed(of))
    tensors = load_file(folder / "model.safetensors")
    for name in ("k_scale", "v_scale"):
        tensors[f"model.layers.0.self_attn.{name}"] = torch.tensor([0.03])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    check_scores(folder, reference, vocab=112)


Q = "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("weight_packed", None, rf"{Q}\.weight_packed is missing"),
        ("weight_scale", None, rf"{Q}\.weight_scale is missing"),
        ("weight_zero_point", None, rf"{Q}\.weight_zero_point is missing"),
        ("weight_packed", torch.zeros(64, 7, dtype=torch.int32), r"has shape \[64, 7\]"),
        ("weight_scale", torch.ones(64, 3), r"weight_scale has shape \[64, 3\]"),
        ("weight_scale", torch.ones(64, 2).int(), r"weight_scale is torch\.int32"),
        ("weight_shape", torch.tensor([64, 60]), r"weight_shape is \[64, 60\] where"),
        ("weight_g_idx", torch.arange(64).int(), r"weight_g_idx makes groups of other sizes"),
        ("weight_global_scale", torch.ones(1), r"weight_global_scale is unexpected"),
        ("bias", torch.ones(64), rf"{Q}\.bias is not zero"),
    ],
)
def test_tensors_that_do_not_fit_are_told_at_once_with_what_to_do(
    name: str, value: torch.Tensor | None, words: str, tmp_path: Path
) -> None:
    of = weights(symmetric=False)
    folder, _ = quantised(tmp_path, config_of(group(weights=of)), packed(of))
    tensors = load_file(folder / "model.safetensors")
    if value is None:
        del tensors[f"{Q}.{name}"]
    else:
        tensors[f"{Q}.{name}"] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelInvalidError, match=rf"{words}.*Download the model again"):
        make_executor(folder)


def test_quantised_modules_of_no_group_are_told(tmp_path: Path) -> None:
    of = weights()
    config = config_of(group(r"re:.*mlp.*", weights=of))
    folder, _ = quantised(tmp_path, config, packed(of))
    with pytest.raises(ModelInvalidError, match=r"q_proj is quantised, but no target"):
        make_executor(folder)


def test_integers_of_more_bits_than_config_json_says_are_told(tmp_path: Path) -> None:
    of = weights(4, strategy="channel", group_size=None)

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        grid = round_to_grid(weight, 8, is_symmetric=True)
        return int8_tensors(grid, 8, has_zeros=False), grid.dequantize()

    folder, _ = quantised(tmp_path, config_of(group(weights=of), format="int-quantized"), store)
    with pytest.raises(ModelInvalidError, match=r"weight holds integers of more than 4 bits"):
        make_executor(folder)
