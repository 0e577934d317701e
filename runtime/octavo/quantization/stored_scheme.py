"""Scheme of quantised checkpoints: weights are repacked for the device's kernels as they are read, and no
number changes.

Products that are one product stay one where their parts allow it. Parts whose inputs are ordered differently,
or that are not all quantised, become products side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import torch

from octavo.kernels.reference.weight_only import QuantizedWeight
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.layers.stored_weight import picked, plain_weight, rows_of_each, stored_bias
from octavo.loading import OnDevice, Placement, WeightSource
from octavo.quantization.input_order import of_scattered_inputs, scattered_columns
from octavo.quantization.panel_forms import PANELS
from octavo.quantization.stored import StoredFormat, StoredLayout, StoredWeight
from octavo.quantization.unquantised import Unquantised
from octavo.quantization.weight_forms import WeightForms, plain_bytes

_Part = StoredWeight | PlainWeight
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stored:
    """See `Scheme`. A weight for whose sizes the device has no form is dequantised to the activations'
    dtype."""

    format: StoredFormat
    forms: WeightForms = PANELS

    def load(self, projection: Projection, source: WeightSource, placement: Placement) -> Linear:
        return self._load(projection, source, placement, is_head=False)

    def load_head(
        self, projection: Projection, source: WeightSource, placement: Placement
    ) -> Linear:
        return self._load(projection, source, placement, is_head=True)

    def head(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        whole_vocab: int | None = None,
    ) -> Linear:
        return self.forms.plain(PlainWeight(weight, bias), is_head=True)

    def num_bytes(self, projection: Projection, dtype: torch.dtype) -> int:
        depth, total = projection.in_features, 0
        widths = projection.stored_widths.items()
        parts = [(self.format.layout(name, depth), width) for name, width in widths]
        for run in _runs(parts, lambda one, other: _have_one_layout(one[0], other[0])):
            width = sum(width for _, width in run)
            layouts = [layout for layout, _ in run if layout is not None]
            total += self._run_bytes(width, projection, layouts, dtype)
        return total

    def head_bytes(self, projection: Projection, dtype: torch.dtype, *, is_tied: bool) -> int:
        scheme = Unquantised() if is_tied else self
        return scheme.num_bytes(projection, dtype)

    def _load(
        self,
        projection: Projection,
        source: WeightSource,
        placement: Placement,
        *,
        is_head: bool,
    ) -> Linear:
        bias = stored_bias(projection, source, placement)
        _check_unneeded_biases(projection, source)
        parts = list(self._parts(projection, source, placement))
        linears, first = [], 0
        for run in _runs(parts, _are_one_product):
            width = sum(_width(part) for part in run)
            own_bias = None if bias is None else bias[first : first + width]
            linears.append(self._linear(run, own_bias, placement, is_head=is_head))
            first += width
        return linears[0] if len(linears) == 1 else SideBySide(linears)

    def _parts(
        self, projection: Projection, source: WeightSource, placement: Placement
    ) -> Iterator[_Part]:
        """With outputs where the product wants them, which is within the parameter that holds them, and of
        the rank's alone."""
        cut, depth = projection.cut, projection.stored.in_features
        placed = OnDevice(source, placement.device)
        for name, width, rows in rows_of_each(projection):
            found = self.format.read(name, width, depth, placed)
            if found is not None and projection.is_routed:
                # Experts' kernels take activations as they are.
                found = replace(found, inputs=None, input_scale=None)
            part: _Part = found or plain_weight(
                Projection((name,), depth, (width,)), source, placement
            )
            if rows is not None:
                part = _with_rows(part, rows)
            yield part if cut is None or cut.inputs is None else _with_inputs(part, cut.inputs)

    def _linear(
        self,
        run: list[_Part],
        bias: torch.Tensor | None,
        placement: Placement,
        *,
        is_head: bool,
    ) -> Linear:
        stored = [part for part in run if isinstance(part, StoredWeight)]
        if not stored:
            matrices = [part.weight for part in run if isinstance(part, PlainWeight)]
            matrix = matrices[0] if len(matrices) == 1 else torch.cat(matrices)
            return self.forms.plain(PlainWeight(matrix, bias), is_head=is_head)
        code, order = stored[0].code, stored[0].order
        weight = _merged([part.weight for part in stored])
        linear = self.forms.stored(
            code,
            weight,
            bias,
            placement.dtype,
            is_head=is_head,
            inputs=stored[0].inputs,
            input_scale=stored[0].input_scale,
        )
        if linear is None:
            dequantised = replace(stored[0], weight=weight).dequantize()
            plain = PlainWeight(dequantised.to(placement.dtype), bias)
            return self.forms.plain(plain, is_head=is_head)
        return linear if order is None else Reordered(linear, order)

    def _run_bytes(
        self,
        width: int,
        projection: Projection,
        layouts: list[StoredLayout],
        dtype: torch.dtype,
    ) -> int:
        depth, has_bias = projection.in_features, projection.bias
        plain = plain_bytes(width, depth, dtype, has_bias=has_bias)
        if not layouts:
            return plain
        whole = projection.stored.in_features
        group = math.gcd(depth, *(layout.group or depth for layout in layouts))
        if layouts[0].is_reordered and depth < whole:
            group = math.gcd(whole, *(layout.group or whole for layout in layouts))
            depth, group = scattered_columns(depth, whole, group)
        has_zeros = any(layout.has_zeros for layout in layouts)
        held = self.forms.stored_bytes(
            layouts[0].code,
            width,
            depth,
            group,
            dtype,
            has_zeros=has_zeros,
            has_bias=has_bias,
            inputs=None if projection.is_routed else layouts[0].inputs,
        )
        if held is None:
            return plain
        order = depth * torch.int64.itemsize if layouts[0].is_reordered else 0
        return held + order


class SideBySide:
    """Products of the same input, whose outputs lie side by side."""

    __slots__ = ("_linears",)

    plain: Final = None
    lookup: Final = None

    def __init__(self, linears: Sequence[Linear]) -> None:
        self._linears = linears

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return torch.cat([linear(x, step) for linear in self._linears], dim=-1)


class Reordered:
    """A product whose weight has its inputs in another order.

    Args:
        order: `[in_features]` int64: which input each column of the weight belongs to.
    """

    __slots__ = ("linear", "order")

    plain: Final = None
    lookup: Final = None

    def __init__(self, linear: Linear, order: torch.Tensor) -> None:
        self.linear = linear
        self.order = order

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return self.linear(x.index_select(-1, self.order), step)


def _check_unneeded_biases(projection: Projection, source: WeightSource) -> None:
    """Those who quantise models store biases of zeros where the model has none."""
    if projection.bias:
        return
    widths = projection.stored.stored_widths.items()
    shapes = {f"{name}.bias": (width,) for name, width in widths if source.has(f"{name}.bias")}
    for name, bias in zip(shapes, source.tensors(shapes), strict=True):
        if bias.any():
            source.note(f"{name} is not zero, though by config.json there is none")


def _runs(parts: Iterable[_T], are_one: Callable[[_T, _T], bool]) -> list[list[_T]]:
    """Neighbours of which each two are one."""
    runs: list[list[_T]] = []
    for part in parts:
        if runs and are_one(runs[-1][-1], part):
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _are_one_product(one: _Part, other: _Part) -> bool:
    if isinstance(one, PlainWeight) or isinstance(other, PlainWeight):
        return isinstance(one, PlainWeight) and isinstance(other, PlainWeight)
    if one.code is not other.code or not _have_one_rounding(one, other):
        return False
    if one.order is other.order:
        return True
    return one.order is not None and other.order is not None and torch.equal(one.order, other.order)


def _have_one_rounding(one: StoredWeight, other: StoredWeight) -> bool:
    scales = (one.input_scale, other.input_scale)
    if scales[0] is None or scales[1] is None:
        return one.inputs == other.inputs and scales[0] is scales[1]
    return one.inputs == other.inputs and torch.equal(scales[0], scales[1])


def _have_one_layout(one: StoredLayout | None, other: StoredLayout | None) -> bool:
    """As `_are_one_product`, as far as it is known: parts of one input are mostly ordered alike."""
    if one is None or other is None:
        return one is other
    return (
        one.code is other.code
        and one.is_reordered == other.is_reordered
        and one.inputs == other.inputs
    )


def _with_rows(part: _Part, rows: np.ndarray) -> _Part:
    if isinstance(part, PlainWeight):
        return PlainWeight(picked(part.weight, rows), None)
    weight = part.weight
    zeros = None if weight.zeros is None else picked(weight.zeros, rows)
    # As bytes: few operators take float8.
    codes = picked(weight.codes.view(torch.uint8), rows).view(weight.codes.dtype)
    return replace(part, weight=QuantizedWeight(codes, picked(weight.scales, rows), zeros))


def _with_inputs(part: _Part, inputs: range) -> _Part:
    if isinstance(part, PlainWeight):
        return PlainWeight(part.weight[:, inputs.start : inputs.stop].contiguous(), None)
    if part.order is not None:
        return of_scattered_inputs(part, part.order, inputs)
    return replace(part, weight=part.weight.of_inputs(inputs))


def _width(part: _Part) -> int:
    matrix = part.weight if isinstance(part, PlainWeight) else part.weight.codes
    return matrix.shape[0]


def _merged(weights: list[QuantizedWeight]) -> QuantizedWeight:
    """One weight, one below the other; groups are the largest that divide all of theirs."""
    group = math.gcd(*(weight.group for weight in weights))
    has_zeros = any(weight.zeros is not None for weight in weights)
    scales, zeros = [], []
    for weight in weights:
        repeats = weight.group // group
        scales.append(weight.scales.repeat_interleave(repeats, 1))
        if has_zeros and weight.zeros is not None:
            zeros.append(weight.zeros.repeat_interleave(repeats, 1))
        elif has_zeros:
            zeros.append(torch.zeros_like(scales[-1], dtype=torch.int8))
    codes = [weight.codes for weight in weights]
    return QuantizedWeight(
        _stacked(codes), torch.cat(scales), torch.cat(zeros) if has_zeros else None
    )


def _stacked(codes: list[torch.Tensor]) -> torch.Tensor:
    """One below the other, in the order in which each of them lies in memory."""
    if len(codes) == 1:
        return codes[0]
    if all(one.T.is_contiguous() for one in codes):
        return torch.cat([one.T for one in codes], dim=1).T
    return torch.cat(codes)
