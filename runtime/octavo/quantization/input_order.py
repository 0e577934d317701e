"""Order of inputs in which a weight's groups lie side by side: GPTQ's act-order, as `g_idx` tells it."""

from __future__ import annotations

import torch

from octavo.loading import WeightSource
from octavo.quantization.stored import tensors_of


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
