"""Quantised weights of any code, for tests of the products with them."""

from __future__ import annotations

import torch

from octavo.kernels.fp4 import powers_of_two
from octavo.kernels.packed_weight import PackedWeight, pack
from octavo.kernels.reference.weight_only import Code, QuantizedWeight


def quantized(
    code: Code, width: int, depth: int, group: int, *, has_zeros: bool, seed: int = 0
) -> QuantizedWeight:
    """Every code there is among them, where there are as many."""
    generator = torch.Generator().manual_seed(seed + width * depth)
    if code is Code.MXFP4:
        shape = (width, depth // group)
        exponents = torch.randint(118, 125, shape, generator=generator, dtype=torch.uint8)
        codes = torch.randint(16, (width, depth), generator=generator, dtype=torch.uint8)
        return QuantizedWeight(codes, powers_of_two(exponents))
    low, high = (-8, 8) if code is Code.INT4 else (-128, 128)
    codes = torch.randint(low, high, (width, depth), generator=generator).to(torch.int8)
    if code is Code.FLOAT8:
        codes[(codes & 127) == 127] = 126  # NaN, which no weight is
        codes = codes.view(torch.float8_e4m3fn)
    scales = (torch.rand(width, depth // group, generator=generator) - 0.3) / (high * depth**0.5)
    zeros = torch.randint(low, high, scales.shape, generator=generator).to(torch.int8)
    return QuantizedWeight(codes, scales, zeros if has_zeros else None)


def packed(weight: QuantizedWeight, code: Code, device: torch.device) -> PackedWeight:
    found = pack(weight, code)
    return PackedWeight(
        code,
        found.words.to(device),
        found.scales.to(device),
        None if found.zeros is None else found.zeros.to(device),
        found.depth,
    )


def assert_product(
    got: torch.Tensor,
    x: torch.Tensor,
    weight: QuantizedWeight,
    bias: torch.Tensor | None,
) -> None:
    """`got` is `x @ weight.T + bias`, summed in float32 in some order and rounded once."""
    wide, matrix = x.double().cpu(), weight.dequantize().double()
    exact, size = wide @ matrix.T, wide.abs() @ matrix.abs().T
    if (
        weight.zeros is not None
    ):  # what is subtracted from codes is exact, and so counts for no error
        size = size + 1e-30
    if bias is not None:
        exact, size = exact + bias.double().cpu(), size + bias.double().abs().cpu()
    unit = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}[x.dtype]
    error = (got.double().cpu() - exact).abs()
    assert (error <= unit * exact.abs() + 2e-6 * size + 2.0**-24).all(), error.max()
