"""Weight of a projection whose checkpoint holds plain floating-point matrices, one for each of its names."""

from __future__ import annotations

import torch

from octavo.layers.linear import PlainWeight
from octavo.layers.projection import Projection
from octavo.loading import Placement, WeightSource, floating_tensors


def plain_weight(projection: Projection, source: WeightSource, placement: Placement) -> PlainWeight:
    """Weights and biases side by side, in the order of the names and then of the heads. One that is alone and
    right as it is stored stays a view of its file."""
    if len(projection.names) == 1:
        (stored,) = floating_tensors(source, _shapes(projection))
        weight = placement.put(stored).contiguous()
    else:
        weight = placement.empty(projection.width, projection.in_features)
        fill(weight, source, projection)
    if projection.order is not None:
        weight = weight[projection.order.rows().to(placement.device)]
    return PlainWeight(weight, stored_bias(projection, source, placement))


def stored_bias(
    projection: Projection, source: WeightSource, placement: Placement
) -> torch.Tensor | None:
    """Biases `[width]`, in the same order; None where there are none."""
    if not projection.bias:
        return None
    widths = projection.stored_widths.items()
    parts = floating_tensors(source, {f"{name}.bias": (width,) for name, width in widths})
    bias = torch.cat([placement.put(part) for part in parts])
    if projection.order is None:
        return bias
    return bias[projection.order.rows().to(placement.device)]


def fill(weight: torch.Tensor, source: WeightSource, projection: Projection) -> None:
    """Writes the stored weights into `weight` `[width, in_features]`: each is read into its place."""
    stored = floating_tensors(source, _shapes(projection))
    first = 0
    for part in stored:
        weight[first : first + len(part)].copy_(part)
        first += len(part)


def _shapes(projection: Projection) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.weight": (width, projection.in_features)
        for name, width in projection.stored_widths.items()
    }
