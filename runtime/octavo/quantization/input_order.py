"""Order of inputs in which a weight's groups lie side by side: GPTQ's act-order, as `g_idx` tells it.

A rank that has some of the inputs has some columns of every group, in each as many as chance will have it.
Kernels want groups of one size: so those columns are filled up to whole units with columns of zeros, and each
unit is a group with the scale of the one that it is of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch

from octavo.kernels.reference.weight_only import QuantizedWeight
from octavo.loading import WeightSource
from octavo.quantization.stored import StoredWeight, tensors_of

# Smaller ones have more scales, larger ones more zeros: of a group of 128 on two ranks either is a quarter.
_UNIT: Final = 32
_LEAST_UNIT: Final = 16


def read_order(
    name: str, depth: int, group: int | None, source: WeightSource, *, is_expected: bool
) -> torch.Tensor | None:
    """The input of each column when groups lie side by side, `[depth]` int64; None: its own.

    Args:
        name: Of the tensor that holds each input's group.
        group: Inputs that share a scale; None: all.
        is_expected: By config.json, which decides whether it must be there.
    """
    if not source.has(name) and not is_expected:
        return None
    (group_of_input,) = tensors_of(source, {name: (depth,)}, torch.int32)
    side_by_side = torch.arange(depth, device=group_of_input.device) // (group or depth)
    is_unset = not group_of_input.any() or bool((group_of_input == -1).all())
    if is_unset or torch.equal(group_of_input.long(), side_by_side):
        return None  # one value for all is what is written where it is not needed
    order = torch.argsort(group_of_input, stable=True)
    if not torch.equal(group_of_input[order].long(), side_by_side):
        source.note(f"{name} makes groups of other sizes than group_size")
    return order


def of_scattered_inputs(part: StoredWeight, order: torch.Tensor, inputs: range) -> StoredWeight:
    """The columns of some neighbouring inputs, no number of which changes.

    Args:
        order: The part's.
    """
    weight, depth = part.weight, len(order)
    group = weight.group
    unit = _unit_of(group)
    own = torch.nonzero((order >= inputs.start) & (order < inputs.stop)).squeeze(1)
    groups = own // group
    counts = torch.bincount(groups, minlength=depth // group)
    units = (counts + unit - 1) // unit
    first_own, first = counts.cumsum(0) - counts, (units.cumsum(0) - units) * unit
    places = first[groups] + torch.arange(len(own), device=own.device) - first_own[groups]
    columns = own.new_zeros(int(units.sum()) * unit)
    columns[places] = own
    is_filled = torch.ones_like(columns, dtype=torch.bool)
    is_filled[places] = False
    of_unit = torch.repeat_interleave(torch.arange(len(units), device=own.device), units)
    scales = weight.scales[:, of_unit]
    zeros = None if weight.zeros is None else weight.zeros[:, of_unit]
    codes = weight.codes[:, columns]
    codes[:, is_filled] = 0 if zeros is None else zeros.repeat_interleave(unit, 1)[:, is_filled]
    places_of = torch.where(is_filled, 0, order[columns] - inputs.start)
    return replace(
        part,
        weight=QuantizedWeight(codes, scales, zeros),
        order=places_of,
        num_inputs=len(inputs),
    )


def scattered_columns(num_inputs: int, depth: int, group: int) -> tuple[int, int]:
    """Of `of_scattered_inputs`, about how many columns there are for so many of `depth` inputs, and how many
    share a scale."""
    unit, num_groups = _unit_of(group), depth // group
    return num_groups * -(-num_inputs // (num_groups * unit)) * unit, unit


def _unit_of(group: int) -> int:
    return min(_UNIT, max(_LEAST_UNIT, group // 4))
