"""Weight of a projection whose checkpoint holds plain floating-point matrices, one for each of its names.

Of a rank's share no more than its rows, or its columns, are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from octavo.layers.linear import PlainWeight
from octavo.layers.projection import Projection
from octavo.loading import Placement, Slice, WeightSource, floating_tensors


def plain_weight(projection: Projection, source: WeightSource, placement: Placement) -> PlainWeight:
    """Weights and biases side by side, in the order of the names and then of the heads. One that is alone and
    right as it is stored stays a view of its file."""
    if len(projection.names) == 1:
        (stored,) = _stored_weights(projection, source)
        weight = placement.put(stored).contiguous()
    else:
        weight = placement.empty(projection.width, projection.in_features)
        fill(weight, source, projection)
    return PlainWeight(weight, stored_bias(projection, source, placement))


def stored_bias(
    projection: Projection, source: WeightSource, placement: Placement
) -> torch.Tensor | None:
    """Biases `[width]`, in the same order; None where there are none."""
    if not projection.bias:
        return None
    widths = projection.stored.stored_widths.items()
    parts = floating_tensors(source, {f"{name}.bias": (width,) for name, width in widths})
    bias = torch.cat([placement.put(part) for part in parts])
    rows = projection.stored_rows()
    return bias if rows is None else picked(bias, rows)


def fill(weight: torch.Tensor, source: WeightSource, projection: Projection) -> None:
    """Writes the stored weights into `weight` `[width, in_features]`: each is read into its place."""
    first = 0
    for part in _stored_weights(projection, source):
        weight[first : first + len(part)].copy_(part)
        first += len(part)


def picked(stored: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """These of its rows, in their order."""
    return stored[torch.tensor(rows, device=stored.device)]


def rows_of_each(projection: Projection) -> Iterator[tuple[str, int, np.ndarray | None]]:
    """Of each parameter its name, its width as it is stored, and which of its rows the product has, in the
    product's order; None: all as they lie."""
    rows, first, first_stored = projection.stored_rows(), 0, 0
    widths = projection.stored_widths
    for name, stored_width in projection.stored.stored_widths.items():
        own = None if rows is None else rows[first : first + widths[name]] - first_stored
        yield name, stored_width, own
        first += widths[name]
        first_stored += stored_width


def _stored_weights(projection: Projection, source: WeightSource) -> Iterator[torch.Tensor]:
    depth = projection.stored.in_features
    inputs = None if projection.cut is None else projection.cut.inputs
    columns = None if inputs is None else Slice(1, inputs.start, inputs.stop)
    for name, width, rows in rows_of_each(projection):
        shapes = {f"{name}.weight": (width, depth)}
        if rows is None or projection.cut is None or columns is not None:
            (part,) = floating_tensors(source, shapes, columns)
            yield part if rows is None else picked(part, rows)
        else:
            yield _rows(source, shapes, rows)


def _rows(
    source: WeightSource, shapes: Mapping[str, tuple[int, ...]], rows: np.ndarray
) -> torch.Tensor:
    """These rows of one parameter, in their order; runs of neighbours are read, and nothing between."""
    ((width, _),) = shapes.values()
    lying = np.sort(rows)
    parts = []
    for run in _runs(lying):
        part = None if len(run) == width else Slice(0, run.start, run.stop)
        parts += floating_tensors(source, shapes, part)
    found = parts[0] if len(parts) == 1 else torch.cat(parts)
    is_in_order = np.array_equal(lying, rows)
    return found if is_in_order else picked(found, np.searchsorted(lying, rows))


def _runs(lying: np.ndarray) -> list[range]:
    """Neighbours among increasing numbers."""
    breaks = (np.flatnonzero(np.diff(lying) != 1) + 1).tolist()
    bounds = [0, *breaks, len(lying)]
    return [
        range(int(lying[first]), int(lying[last - 1]) + 1)
        for first, last in itertools.pairwise(bounds)
    ]
