"""Quantised weights of any format: what is merged, what it takes, and what is told when it does not fit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.kernels.reference import device as reference
from octavo.kernels.reference.weight_only import Code
from octavo.layers.head_order import HeadOrder
from octavo.layers.linear import Linear
from octavo.layers.projection import Projection
from octavo.loading import Placement, WeightSource
from octavo.quantization import stored_format
from octavo.quantization.packed_forms import PackedForms, WordsLinear
from octavo.quantization.panel_forms import PANELS
from octavo.quantization.stored import StoredLayout, StoredWeight, quantized_weight
from octavo.quantization.stored_scheme import Reordered, SideBySide, Stored
from octavo.quantization.weight_forms import WeightForms
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.quantised_checkpoints import (
    awq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)
from octavo.kernels.cpu.products.panel_linear import PanelLinear

CPU = torch.device("cpu")


@dataclass
class Checkpoint:
    """A format, and the source of its tensors: some modules' weights are quantised, others' are plain."""

    weights: dict[str, StoredWeight] = field(default_factory=dict)
    tensors_: dict[str, torch.Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    method: str = "made up"

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        found = self.weights.get(name)
        if found is None:
            return None
        weight = found.weight
        group = None if weight.group == depth else weight.group
        has_zeros = weight.zeros is not None
        return StoredLayout(found.code, group, has_zeros, found.order is not None)

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        return self.weights.get(name)

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        found = self.weights.get(name)
        return None if found is None else (found.weight.codes.shape[0], found.weight.codes.shape[1])

    def names(self) -> tuple[str, ...]:
        return ()

    def has(self, name: str) -> bool:
        return name in self.tensors_

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self.tensors_[name].shape) if self.has(name) else None

    def tensors(self, shapes: object, part: object = None) -> list[torch.Tensor]:
        return [self.tensors_[name] for name in shapes]  # type: ignore[attr-defined]

    def note(self, problem: str) -> None:
        self.problems.append(problem)

    def finish(self, is_ignored: object) -> None: ...

    def load(self, projection: Projection, forms: WeightForms | None = None) -> Linear:
        scheme = Stored(self, forms or PANELS)
        return scheme.load(projection, self, Placement(torch.float32, CPU))


def stored(
    code: Code,
    width: int,
    depth: int,
    group: int,
    *,
    has_zeros: bool = False,
    order: torch.Tensor | None = None,
) -> StoredWeight:
    generator = torch.Generator().manual_seed(width)
    low, high = (-8, 8) if code is Code.INT4 else (-128, 128)
    codes = torch.randint(low, high, (width, depth), generator=generator).to(torch.int8)
    if code is Code.FLOAT8:
        codes = torch.randn(width, depth, generator=generator).to(torch.float8_e4m3fn)
    groups = -(-depth // group)
    scales = torch.rand(width, groups, generator=generator).half()
    zeros = torch.randint(-8, 8, (width, groups), generator=generator).to(torch.int8)
    zeros[0, 0] = 5  # one at least is not 0
    weight = quantized_weight(codes, scales, zeros if has_zeros else None, group)
    return StoredWeight(code, weight, order)


def project(widths: dict[str, int], depth: int, **changes: object) -> Projection:
    return replace(Projection(tuple(widths), depth, tuple(widths.values())), **changes)  # type: ignore[arg-type]


def check(linear: Linear, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    x = torch.randn(5, weight.shape[1], generator=torch.Generator().manual_seed(9))
    expected = x.double() @ weight.double().T
    if bias is not None:
        expected = expected + bias.double()
    size = x.double().abs() @ weight.double().abs().T + 8 * x.abs().sum(1, keepdim=True)
    assert ((linear(x).double() - expected).abs() <= 1e-5 * size + 1e-5).all()


def num_bytes(linear: Linear) -> int:
    """Of the forms that quantised weights take."""
    if isinstance(linear, SideBySide):
        return sum(num_bytes(one) for one in linear._linears)
    if isinstance(linear, Reordered):
        return num_bytes(linear.linear) + linear.order.nbytes
    if isinstance(linear, PanelLinear):
        return linear.panels.num_bytes + (0 if linear._bias is None else linear._bias.nbytes)
    if isinstance(linear, WordsLinear):
        return linear.weight.num_bytes + (0 if linear.bias is None else linear.bias.nbytes)
    raise AssertionError(f"{type(linear).__name__} holds a dequantised weight")


zipped = functools.partial(zip, strict=True)
ORDER = torch.randperm(96, generator=torch.Generator().manual_seed(4))
OTHER = torch.randperm(96, generator=torch.Generator().manual_seed(5))
FUSED: dict[str, tuple[dict[str, StoredWeight], int]] = {
    # Parts by name, and how many products they become.
    "alike": ({n: stored(Code.INT4, w, 96, 32) for n, w in zipped("qkv", (48, 16, 32))}, 1),
    "groups": (
        {n: stored(Code.INT4, 32, 96, g) for n, g in zipped("qkv", (32, 96, 48))},
        1,
    ),
    "zeros": (
        {
            n: stored(Code.INT8, 32, 96, 48, has_zeros=z)
            for n, z in zipped("qkv", (False, True, False))
        },
        1,
    ),
    "codes": (
        {n: stored(c, 32, 96, 96) for n, c in zipped("qkv", (Code.INT4, Code.INT8, Code.FLOAT8))},
        3,
    ),
    "one order": ({n: stored(Code.INT4, 32, 96, 32, order=ORDER) for n in "qkv"}, 1),
    "orders": (
        {
            n: stored(Code.INT4, 32, 96, 32, order=o)
            for n, o in zipped("qkv", (ORDER, OTHER, OTHER))
        },
        2,
    ),
    "some orders": (
        {n: stored(Code.INT4, 32, 96, 32, order=o) for n, o in zipped("qkv", (ORDER, None, ORDER))},
        3,
    ),
    "a narrow part": ({n: stored(Code.INT4, w, 96, 32) for n, w in zipped("qkv", (40, 8, 16))}, 1),
    "a misfit": ({n: stored(Code.INT4, w, 96, 32) for n, w in zipped("qk", (40, 16))}, 1),
    "small groups": ({"q": stored(Code.INT4, 32, 96, 4, has_zeros=True, order=ORDER)}, 1),
    "a last group": ({"q": stored(Code.INT4, 32, 80, 64, has_zeros=True)}, 1),
}
PACKED = PackedForms(reference)
FORMS = pytest.mark.parametrize("forms", [PANELS, PACKED], ids=["panels", "packed"])
DEQUANTISED: dict[WeightForms, tuple[str, ...]] = {
    PANELS: ("a misfit", "small groups"),
    PACKED: ("small groups",),
}


@FORMS
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("name", sorted(FUSED))
def test_parts_become_as_few_products_as_give_what_they_stand_for(
    name: str, has_bias: bool, forms: WeightForms
) -> None:
    weights, num_products = FUSED[name]
    widths = {part: one.weight.codes.shape[0] for part, one in weights.items()}
    depth = next(iter(weights.values())).weight.codes.shape[1]
    biases = {f"{part}.bias": torch.randn(width) for part, width in widths.items()}
    checkpoint = Checkpoint(weights, biases if has_bias else {})
    projection = project(widths, depth, bias=has_bias)
    linear = checkpoint.load(projection, forms)
    assert len(linear._linears if isinstance(linear, SideBySide) else [linear]) == num_products
    expected = torch.cat([one.dequantize() for one in weights.values()])
    check(linear, expected, torch.cat(list(biases.values())) if has_bias else None)
    if (
        name == "orders" or name in DEQUANTISED[forms]
    ):  # the former are not known to differ beforehand
        return
    assert Stored(checkpoint, forms).num_bytes(projection, torch.float32) == num_bytes(linear)


@pytest.mark.parametrize(
    ("forms", "name"), [(forms, name) for forms, names in DEQUANTISED.items() for name in names]
)
def test_what_fits_no_form_counts_as_a_plain_weight(forms: WeightForms, name: str) -> None:
    weights, _ = FUSED[name]
    widths = {part: one.weight.codes.shape[0] for part, one in weights.items()}
    scheme = Stored(Checkpoint(weights), forms)
    for dtype in (torch.bfloat16, torch.float32):
        plain = sum(widths.values()) * 96 * dtype.itemsize
        assert scheme.num_bytes(project(widths, 96), dtype) == plain


def test_plain_parts_stand_beside_quantised_ones() -> None:
    plain = {f"{name}.weight": torch.randn(32, 96) for name in "kv"}
    checkpoint = Checkpoint({"q": stored(Code.INT4, 48, 96, 32)}, plain)
    projection = project({"q": 48, "k": 32, "v": 32}, 96)
    linear = checkpoint.load(projection)
    assert isinstance(linear, SideBySide)
    assert len(linear._linears) == 2
    check(linear, torch.cat([checkpoint.weights["q"].dequantize(), *plain.values()]))


def test_outputs_that_lie_elsewhere_in_one_parameter_are_put_into_their_place() -> None:
    order = HeadOrder(4, 2, 8, rotary_width=None, is_grouped=True)
    weight = stored(Code.INT4, 64, 96, 32, has_zeros=True)
    bias = torch.randn(64)
    checkpoint = Checkpoint({"qkv": weight}, {"qkv.bias": bias})
    projection = Projection(("qkv",), 96, (32, 16, 16), bias=True, order=order)
    check(checkpoint.load(projection), weight.dequantize()[order.rows()], bias[order.rows()])


def test_zeros_that_are_all_0_take_no_room() -> None:
    weight = stored(Code.INT4, 32, 96, 32)
    zeros = torch.zeros(32, 3, dtype=torch.int8)
    codes, scales = weight.weight.codes, weight.weight.scales
    weight = replace(weight, weight=quantized_weight(codes, scales, zeros, 32))
    linear = Checkpoint({"q": weight}).load(project({"q": 32}, 96))
    assert isinstance(linear, PanelLinear)
    assert linear.panels.grouping is not None
    assert not linear.panels.grouping.has_zeros


def test_biases_that_the_model_has_not_may_be_zeros_alone() -> None:
    weights = {"q": stored(Code.INT4, 32, 96, 32)}
    checkpoint = Checkpoint(weights, {"q.bias": torch.zeros(32)})
    check(checkpoint.load(project({"q": 32}, 96)), weights["q"].dequantize())
    assert checkpoint.problems == []
    checkpoint.tensors_["q.bias"][7] = 1
    checkpoint.load(project({"q": 32}, 96))
    assert checkpoint.problems == ["q.bias is not zero, though by config.json there is none"]


@settings(deadline=None)
@given(depth=st.integers(1, 40), group=st.integers(1, 50), width=st.integers(1, 3))
def test_groups_of_any_size_are_told_in_groups_that_divide_the_inputs(
    depth: int, group: int, width: int
) -> None:
    codes = torch.randint(-8, 8, (width, depth)).to(torch.int8)
    groups = -(-depth // group)
    scales, zeros = torch.rand(width, groups), torch.randint(-8, 8, (width, groups)).to(torch.int8)
    index = torch.arange(depth) // group
    expected = (codes - zeros[:, index]).float() * scales[:, index]
    found = quantized_weight(codes, scales, zeros, group).dequantize()
    torch.testing.assert_close(found, expected)


Edit = Callable[[dict[str, torch.Tensor]], None]
Q = "model.layers.1.self_attn.q_proj"


def without(name: str) -> Edit:
    return lambda tensors: tensors.__delitem__(name)


def as_they_are_not(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Edit:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (without(f"{Q}.qzeros"), rf"{Q}\.qzeros is missing"),
        (without(f"{Q}.scales"), rf"{Q}\.scales is missing"),
        (without(f"{Q}.qweight"), rf"{Q}\.qweight is missing"),
        (
            as_they_are_not(f"{Q}.qweight", lambda t: t[:, :-1]),
            rf"{Q}\.qweight has shape \[64, 7\] where config.json says \[64, 8\]",
        ),
        (as_they_are_not(f"{Q}.scales", lambda t: t[:-1]), rf"{Q}\.scales has shape"),
        (
            as_they_are_not(f"{Q}.qzeros", lambda t: t.long()),
            rf"{Q}\.qzeros is torch.int64, not torch.int32",
        ),
        (as_they_are_not(f"{Q}.scales", lambda t: t.int()), rf"{Q}\.scales is torch.int32"),
        (lambda t: t.update({f"{Q}.g_idx": torch.zeros(64)}), rf"{Q}\.g_idx is unexpected"),
        (lambda t: t.update({f"{Q}.bias": torch.ones(64)}), rf"{Q}\.bias is not zero"),
        (
            lambda t: t.update({f"{Q}.weight": torch.zeros(64, 64)}),
            rf"{Q}\.weight is unexpected",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_told_at_once_with_what_to_do(
    edit: Edit, words: str, tmp_path: Path
) -> None:
    make_checkpoint(
        tmp_path / "plain", hidden_size=64, intermediate_size=96, head_dim=16, num_attention_heads=4
    )

    def store(
        module: str, weight: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor] | None:
        grid = round_to_grid(weight, 4, 32)
        return (awq_tensors(grid), grid.dequantize()) if is_product(module) else None

    folder = tmp_path / "awq"
    config = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}
    quantise_checkpoint(tmp_path / "plain", folder, store, config)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelInvalidError, match=rf"{folder}.*{words}.*Download the model again"):
        make_executor(folder)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "--quantization int8 or int4"),
        ({"load_in_8bit": True}, "'bitsandbytes'"),
        ({"quant_method": "gguf"}, "safetensors"),
        ({"quant_method": "quark"}, "'quark'; implemented are .*awq.*mxfp4"),
        ({"quant_method": "modelopt"}, "modelopt"),
        ({}, "quant_method is None"),
    ],
)
def test_other_methods_are_refused_with_what_to_do_instead(
    raw: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        stored_format(raw)
