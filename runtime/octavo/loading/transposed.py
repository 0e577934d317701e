"""Transposed parameters: matrices that a checkpoint holds `[inputs, outputs]`, asked for as all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch

from octavo.loading.source import Slice, WeightSource
from octavo.loading.view import SourceView


class TransposedModules(SourceView):
    """
    Args:
        modules: Whose weights lie so; their biases are as they are.
    """

    def __init__(self, source: WeightSource, modules: Collection[str]) -> None:
        super().__init__(source)
        self._weights = frozenset(f"{module}.weight" for module in modules)

    def shape(self, name: str) -> tuple[int, ...] | None:
        found = self._source.shape(name)
        return found if found is None or name not in self._weights else found[::-1]

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [self._tensor(name, shape, part) for name, shape in shapes.items()]

    def _tensor(self, name: str, shape: tuple[int, ...], part: Slice | None) -> torch.Tensor:
        if name not in self._weights:
            return self._source.tensors({name: shape}, part)[0]
        turned = None if part is None else replace(part, dim=1 - part.dim)
        return self._source.tensors({name: shape[::-1]}, turned)[0].T
