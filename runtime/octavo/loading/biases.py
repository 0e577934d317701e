"""Biases of products that several devices share by their inputs: one of the devices alone adds them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from octavo.loading.source import Slice
from octavo.loading.view import SourceView

_BIAS = ".bias"


class WithoutBiases(SourceView):
    """A `WeightSource` whose biases are zeros: those of each device but the first."""

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        found = self._source.tensors(shapes, part)
        return [
            torch.zeros_like(tensor) if name.endswith(_BIAS) else tensor
            for name, tensor in zip(shapes, found, strict=True)
        ]
