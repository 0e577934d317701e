"""Biases of products that several devices share by their inputs: one of the devices alone adds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from octavo.loading.source import Slice, WeightSource

_BIAS = ".bias"


class WithoutBiases:
    """A `WeightSource` whose biases are zeros: those of each device but the first."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source

    def names(self) -> Collection[str]:
        return self._source.names()

    def has(self, name: str) -> bool:
        return self._source.has(name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._source.shape(name)

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        found = self._source.tensors(shapes, part)
        return [
            torch.zeros_like(tensor) if name.endswith(_BIAS) else tensor
            for name, tensor in zip(shapes, found, strict=True)
        ]

    def note(self, problem: str) -> None:
        self._source.note(problem)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        self._source.finish(is_ignored)
