"""Scales of quantised weights that are stored whole: which numbers share one, and in which shapes it lies.

Formats with bytes for codes (FP8, int8) store one scale for a weight, for each output feature, for each group
of an output feature's inputs, or for each block of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.loading import WeightSource
from octavo.quantization.stored import num_groups, tensors_of

_EXPONENT_BIAS = 127
_E4M3_NAN = 0x7F  # of either sign


@dataclass(frozen=True, slots=True)
class Spread:
    """Numbers of a weight that share a scale, or a zero: so many outputs by so many inputs; None: all."""

    outputs: int | None
    inputs: int | None

    def shape(self, width: int, depth: int) -> tuple[int, int]:
        """Of the scales of a weight `[width, depth]`."""
        return num_groups(width, self.outputs), num_groups(depth, self.inputs)

    def stored_shapes(self, width: int, depth: int) -> tuple[tuple[int, ...], ...]:
        """Those in which they are found: where there is one of a dimension, it may be left out."""
        rows, columns = self.shape(width, depth)
        without_inputs = ((rows,),) if columns == 1 else ()
        return ((rows, columns), *without_inputs, *(((),) if rows == columns == 1 else ()))


PER_TENSOR = Spread(None, None)
PER_OUTPUT = Spread(1, None)


def read_scales(
    name: str, spreads: tuple[Spread, ...], width: int, depth: int, source: WeightSource
) -> tuple[torch.Tensor, Spread]:
    """Scales `[width, groups]` float32, and which of the spreads they have.

    Args:
        spreads: Those that they may have; the first where what is stored fits none, which is noted.
    """
    stored, spread = read_spread(name, spreads, width, depth, source)
    return scales_of_outputs(name, stored, spread, width, source), spread


def scales_of_outputs(
    name: str, stored: torch.Tensor, spread: Spread, width: int, source: WeightSource
) -> torch.Tensor:
    """`[width, groups]` float32, of scales that are spread so."""
    return _each_output(_numbers(name, stored, source), spread, width)


def read_zeros(
    name: str, spread: Spread, width: int, depth: int, source: WeightSource
) -> torch.Tensor:
    """What stands for zero, `[width, groups]` int8, where it is stored as the scales are."""
    stored, _ = read_spread(name, (spread,), width, depth, source)
    return _each_output(stored.to(torch.int8), spread, width)


def read_codes(
    name: str, width: int, depth: int, dtype: torch.dtype, source: WeightSource
) -> torch.Tensor:
    """`[width, depth]`, a byte each."""
    (codes,) = tensors_of(source, {name: (width, depth)}, dtype)
    if dtype.is_floating_point and ((codes.view(torch.uint8) & _E4M3_NAN) == _E4M3_NAN).any():
        source.note(f"{name} holds NaN")
    return codes


def read_spread(
    name: str, spreads: tuple[Spread, ...], width: int, depth: int, source: WeightSource
) -> tuple[torch.Tensor, Spread]:
    """As stored, but always with both dimensions."""
    found = source.shape(name)
    spread, shape = next(
        (
            (spread, shape)
            for spread in spreads
            for shape in spread.stored_shapes(width, depth)
            if shape == found
        ),
        (spreads[0], spreads[0].shape(width, depth)),
    )
    (stored,) = source.tensors({name: shape})
    return stored.reshape(spread.shape(width, depth)), spread


def read_input_scale(names: tuple[str, ...], source: WeightSource) -> torch.Tensor | None:
    """`[1]` float32: what a module's activations are divided by before they are rounded, under the first of
    the names that is there; None where there is none, or no positive number."""
    for name in names:
        shape = source.shape(name)
        if shape is None or len(shape) > 2 or any(size != 1 for size in shape):
            continue
        (stored,) = source.tensors({name: shape})
        scale = stored.float().reshape(1)
        return scale if bool(scale.isfinite() & (scale > 0)) else None
    return None


def pass_over(names: tuple[str, ...], source: WeightSource) -> None:
    """Takes tensors that a weight's product does not need, so that they are not unexpected."""
    for name in names:
        if (shape := source.shape(name)) is not None:
            source.tensors({name: shape})


def _numbers(name: str, stored: torch.Tensor, source: WeightSource) -> torch.Tensor:
    """float32; a byte is the exponent of a power of two (E8M0)."""
    if stored.dtype in (torch.uint8, torch.float8_e8m0fnu):
        return torch.exp2(stored.view(torch.uint8).float() - _EXPONENT_BIAS)
    if not stored.is_floating_point() or stored.itemsize == 1:
        source.note(f"{name} is {stored.dtype}, not a floating-point tensor of 16 or 32 bits")
    return stored.float()


def _each_output(stored: torch.Tensor, spread: Spread, width: int) -> torch.Tensor:
    if spread.outputs == 1:
        return stored
    return stored.repeat_interleave(spread.outputs or width, 0)[:width]
