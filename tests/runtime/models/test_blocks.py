"""Blocks against their formulas, and steps of a few rows through the launches that fuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from octavo.kernels import reference as plain
from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.protocols.layers import Kernels
from octavo.kernels.reference import device as reference
from octavo.layers.attention import Attention
from octavo.layers.mlp import Activation, GatedMLP
from octavo.layers.norm import LayerNorm, RMSNorm
from octavo.layers.step import AttentionSpec, Step
from octavo.models.blocks import ParallelBlock, PreNormBlock, SandwichBlock
from octavo.quantization.forms import PackedLinear, PlainLinear

CACHE = torch.empty(0)
HIDDEN, WIDTH, HEADS, KV_HEADS, DIM = 48, 80, 4, 2, 16
SPEC = AttentionSpec(HEADS, KV_HEADS, DIM, AttentionOptions(scale=1.0))


class OwnValues:
    """In place of attention: every query head gives its key head's value."""

    num_live = None
    adapter_tiles = None
    rows = None
    repeats = None
    positions = torch.zeros(0, dtype=torch.int64)
    adapters = ()

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        values = heads[:, spec.num_heads + spec.num_kv_heads :]
        return values.repeat_interleave(spec.num_heads // spec.num_kv_heads, 1).flatten(1)


STEP = OwnValues()


class Counted:
    """The reference kernels, noting which are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        for name in reference.__all__:
            member = getattr(reference, name)
            setattr(self, name, self._noted(name, member) if callable(member) else member)

    def _noted(self, name: str, kernel: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            self.calls.append(name)
            return kernel(*args, **named)

        return call


def numbers(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul_(0.15)


def attention(*, qkv_bias: bool = False, output_bias: bool = False) -> Attention:
    width = (HEADS + 2 * KV_HEADS) * DIM
    return Attention(
        PlainLinear(numbers(width, HIDDEN, seed=1), numbers(width, seed=2) if qkv_bias else None),
        PlainLinear(
            numbers(HIDDEN, HEADS * DIM, seed=3), numbers(HIDDEN, seed=4) if output_bias else None
        ),
        SPEC,
    )


def mlp(
    kernels: Kernels = plain,
    activation: Activation = Activation.SILU,
    *,
    up_bias: bool = False,
    down_bias: bool = False,
) -> GatedMLP:
    return GatedMLP(
        PlainLinear(
            numbers(2 * WIDTH, HIDDEN, seed=5), numbers(2 * WIDTH, seed=6) if up_bias else None
        ),
        PlainLinear(numbers(HIDDEN, WIDTH, seed=7), numbers(HIDDEN, seed=8) if down_bias else None),
        activation.gate(kernels),
        activation,
    )


def rms(seed: int, kernels: Kernels = plain) -> RMSNorm:
    return RMSNorm(numbers(HIDDEN, seed=seed) + 1.0, 1e-5, kernels)


def total(residual: torch.Tensor, pending: torch.Tensor | None) -> torch.Tensor:
    return residual if pending is None else residual + pending


def attended(block: Attention, x: torch.Tensor, step: Step) -> torch.Tensor:
    """The attention of `OwnValues`, by its formula."""
    qkv, output = block.qkv.plain, block.output.plain
    assert qkv is not None
    assert output is not None
    values = F.linear(x, qkv.weight, qkv.bias).view(-1, HEADS + 2 * KV_HEADS, DIM)
    values = values[:, -KV_HEADS:].repeat_interleave(HEADS // KV_HEADS, 1).flatten(1)
    return F.linear(values, output.weight, output.bias)


def fed(block: GatedMLP, x: torch.Tensor) -> torch.Tensor:
    gate_up, down = block.gate_up.plain, block.down.plain
    assert gate_up is not None
    assert down is not None
    gate, up = F.linear(x, gate_up.weight, gate_up.bias).chunk(2, -1)
    return F.linear(F.silu(gate) * up, down.weight, down.bias)


def rms_formula(norm: RMSNorm, x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps) * norm.weight


@pytest.mark.parametrize("has_pending", [False, True])
def test_a_pre_norm_block_is_its_formula(has_pending: bool) -> None:
    parts = rms(10), attention(qkv_bias=True), rms(11), mlp()
    x, pending = numbers(2, 5, HIDDEN, seed=12)
    residual = x.clone()
    left = PreNormBlock(*parts, plain)(residual, pending if has_pending else None, CACHE, STEP)
    x = x + pending if has_pending else x
    x = x + attended(parts[1], rms_formula(parts[0], x), STEP)
    x = x + fed(parts[3], rms_formula(parts[2], x))
    torch.testing.assert_close(total(residual, left), x)


@pytest.mark.parametrize("wanted", [[], [4], [3, 0]])
def test_a_pre_norm_block_finishes_the_rows_that_are_read(wanted: list[int]) -> None:
    fed_rows: list[int] = []

    class Watched(GatedMLP):
        def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
            fed_rows.append(len(x))
            return super().__call__(x, step)

    inner = mlp()
    watched = Watched(inner.gate_up, inner.down, inner.gate, inner.activation)
    block = PreNormBlock(rms(10), attention(qkv_bias=True), rms(11), watched, plain)
    x, pending = numbers(2, 5, HIDDEN, seed=12)
    whole, some = x.clone(), x.clone()
    expected = total(whole, block(whole, pending, CACHE, STEP))
    rows = torch.tensor(wanted, dtype=torch.int64)
    assert block(some, pending, CACHE, STEP, rows) is None
    torch.testing.assert_close(some[rows], expected[rows])
    assert fed_rows == [5, *([len(wanted)] if wanted else [])]


@pytest.mark.parametrize("has_pending", [False, True])
def test_a_sandwich_block_is_its_formula(has_pending: bool) -> None:
    norms = [rms(20 + i) for i in range(4)]
    heads, feed = attention(), mlp()
    block = SandwichBlock((norms[0], norms[1]), heads, (norms[2], norms[3]), feed)
    x, pending = numbers(2, 5, HIDDEN, seed=12)
    residual = x.clone()
    left = block(residual, pending if has_pending else None, CACHE, STEP)
    x = x + pending if has_pending else x
    x = x + rms_formula(norms[1], attended(heads, rms_formula(norms[0], x), STEP))
    x = x + rms_formula(norms[3], fed(feed, rms_formula(norms[2], x)))
    torch.testing.assert_close(total(residual, left), x)


@pytest.mark.parametrize("has_pending", [False, True])
@pytest.mark.parametrize("norms", [1, 2])
def test_a_parallel_block_is_its_formula(norms: int, has_pending: bool) -> None:
    """GPT-NeoX has two layer norms, Falcon-7B one for both halves."""
    first = LayerNorm(numbers(HIDDEN, seed=30) + 1, numbers(HIDDEN, seed=31), 1e-5)
    second = LayerNorm(numbers(HIDDEN, seed=32) + 1, None, 1e-5)
    heads, feed = attention(qkv_bias=True, output_bias=True), mlp(up_bias=True, down_bias=True)
    block = ParallelBlock(first, heads, second if norms == 2 else None, feed)
    x, pending = numbers(2, 5, HIDDEN, seed=12)
    residual = x.clone()
    left = block(residual, pending if has_pending else None, CACHE, STEP)
    x = x + pending if has_pending else x

    def layer_norm(norm: LayerNorm) -> torch.Tensor:
        bias = 0.0 if norm.bias is None else norm.bias
        deviation = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        scaled: torch.Tensor = (x - x.mean(-1, keepdim=True)) / deviation * norm.weight
        return scaled + bias

    other = second if norms == 2 else first
    expected = x + attended(heads, layer_norm(first), STEP) + fed(feed, layer_norm(other))
    torch.testing.assert_close(total(residual, left), expected)


@pytest.mark.parametrize("form", ["pre-norm", "sandwich", "parallel"])
def test_partial_sums_are_made_whole_before_anything_else(form: str) -> None:
    """Two devices with half of each row-sharded product's inputs, here one after the other: what is reduced
    is the half's own result and no norm of it, and no sum rides along with a product."""
    kernels = Counted()
    halves = attention(), mlp(reference)
    norms = [rms(40 + i) for i in range(4)]

    def block(reduce: Callable[[torch.Tensor], torch.Tensor] | None) -> Any:
        heads, feed = halves
        if form == "pre-norm":
            return PreNormBlock(norms[0], heads, norms[1], feed, kernels, reduce)  # type: ignore[arg-type]
        if form == "sandwich":
            return SandwichBlock((norms[0], norms[1]), heads, (norms[2], norms[3]), feed, reduce)
        return ParallelBlock(norms[0], heads, norms[1], feed, reduce)

    x = numbers(3, HIDDEN, seed=12)
    alone, shared = x.clone(), x.clone()
    expected = block(None)(alone, None, CACHE, STEP)
    kernels.calls.clear()
    seen: list[torch.Tensor] = []

    def reduce(partial: torch.Tensor) -> torch.Tensor:
        seen.append(partial)
        return partial.clone()

    left = block(reduce)(shared, None, CACHE, STEP)
    torch.testing.assert_close(total(shared, left), total(alone, expected))
    assert not set(kernels.calls) & {"norm_linear", "linear_add", "norm_gate_up"}
    assert len(seen) == (1 if form == "parallel" else 2)
    first = attended(halves[0], rms_formula(norms[0], x), STEP)
    if form == "parallel":
        first = first + fed(halves[1], rms_formula(norms[1], x))
    torch.testing.assert_close(seen[0], first)


@pytest.mark.parametrize("rows", [1, 3, reference.max_fused_rows, reference.max_fused_rows + 1])
@pytest.mark.parametrize("has_pending", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gelu"])
def test_fused_steps_leave_the_stream_of_the_block_itself(
    kind: str, rows: int, has_pending: bool
) -> None:
    activation = Activation.GELU_TANH if kind == "gelu" else Activation.SILU
    heads, kernels = attention(qkv_bias=kind == "qwen2"), Counted()
    fused = PreNormBlock(
        rms(1, reference),
        heads,
        rms(2, reference),
        mlp(reference, activation),
        kernels,  # type: ignore[arg-type]
    )
    block = PreNormBlock(rms(1), heads, rms(2), mlp(plain, activation), plain)
    start, pending = numbers(2, rows, HIDDEN, seed=3)
    got, expected = start.clone(), start.clone()

    left = fused(got, pending if has_pending else None, CACHE, STEP)
    expected_left = block(expected, pending if has_pending else None, CACHE, STEP)

    torch.testing.assert_close(total(got, left), total(expected, expected_left))
    if rows <= reference.max_fused_rows:
        assert kernels.calls == ["norm_linear", "linear_add", "norm_gate_up", "linear_add"]
        assert left is None
    else:
        assert not set(kernels.calls) & {"norm_linear", "linear_add", "norm_gate_up"}


def test_what_is_not_plain_and_whole_is_not_fused() -> None:
    norms = rms(1), rms(2)
    assert PreNormBlock(norms[0], attention(), norms[1], mlp(), reference).fused is not None

    def experts(x: torch.Tensor, step: Step) -> torch.Tensor:
        return x

    packed = PackedLinear(torch.zeros(HIDDEN, HEADS * DIM), None)
    layer_norm = LayerNorm(torch.ones(HIDDEN), None, 1e-5)
    blocks = (
        PreNormBlock(norms[0], attention(), norms[1], experts, reference),
        PreNormBlock(norms[0], attention(), norms[1], mlp(down_bias=True), reference),
        PreNormBlock(norms[0], attention(), norms[1], mlp(up_bias=True), reference),
        PreNormBlock(norms[0], attention(output_bias=True), norms[1], mlp(), reference),
        PreNormBlock(norms[0], Attention(packed, packed, SPEC), norms[1], mlp(), reference),
        PreNormBlock(layer_norm, attention(), norms[1], mlp(), reference),
        PreNormBlock(norms[0], attention(), norms[1], mlp(), plain),
    )
    assert [block.fused for block in blocks] == [None] * len(blocks)
