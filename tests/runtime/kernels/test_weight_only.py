"""What rounding keeps of a weight."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.reference.weight_only import INT4_GROUP, quantize_int4, quantize_int8


def weights(*shape: int, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * spread


@pytest.mark.parametrize("spread", [1e-6, 0.02, 1e4])
def test_int8_is_half_a_step_off_at_most_and_exact_at_the_largest(spread: float) -> None:
    weight = weights(40, 96, spread=spread)
    quantized = quantize_int8(weight)
    assert quantized.codes.dtype == torch.int8
    error = (quantized.dequantize() - weight).abs()
    assert (error <= quantized.scales * 0.501).all()
    largest = weight.abs().argmax(dim=-1, keepdim=True)
    assert (error.gather(1, largest) <= 1e-6 * quantized.scales * 127).all()


@pytest.mark.parametrize("spread", [1e-6, 0.02, 1e4])
def test_int4_is_half_a_step_off_but_for_what_lies_beyond_seven(spread: float) -> None:
    weight = weights(40, 96, spread=spread)
    quantized = quantize_int4(weight)
    assert quantized.scales.shape == (40, 96 // INT4_GROUP)
    assert torch.equal(quantized.scales, quantized.scales.bfloat16().float())
    steps = quantized.scales.repeat_interleave(INT4_GROUP, dim=1).abs()
    places = weight / quantized.scales.repeat_interleave(INT4_GROUP, dim=1)
    error = (quantized.dequantize() - weight).abs() / steps
    assert error[places <= 7.5].max() <= 0.501 + 8 * 2**-9  # bf16 rounds the scale of -8
    assert error.max() <= 1 + 8 * 2**-9
    assert set(quantized.codes.flatten().tolist()) == set(range(-8, 8))


@pytest.mark.parametrize("quantize", [quantize_int8, quantize_int4])
def test_what_is_rounded_stays_as_it_is_when_rounded_again(quantize: object) -> None:
    once = quantize(weights(16, 64)).dequantize()  # type: ignore[operator]
    torch.testing.assert_close(quantize(once).dequantize(), once, rtol=1e-6, atol=0)  # type: ignore[operator]


@pytest.mark.parametrize("quantize", [quantize_int8, quantize_int4])
def test_zeros_stay_zeros(quantize: object) -> None:
    weight = weights(3, 32)
    weight[1] = 0
    assert (quantize(weight).dequantize()[1] == 0).all()  # type: ignore[operator]


def test_int4_names_the_depth_that_it_cannot_group() -> None:
    with pytest.raises(ValueError, match="in_features is 48"):
        quantize_int4(weights(4, 48))
