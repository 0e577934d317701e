"""Device of stored tensors: quantised weights are taken apart where they will be multiplied, which a GPU does
faster than the host."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from octavo.loading.source import Slice, WeightSource


class OnDevice:
    """A `WeightSource` whose tensors are moved, in the dtype that they are stored in."""

    def __init__(self, source: WeightSource, device: torch.device) -> None:
        self._source = source
        self._device = device

    def names(self) -> Collection[str]:
        return self._source.names()

    def has(self, name: str) -> bool:
        return self._source.has(name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._source.shape(name)

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [stored.to(self._device) for stored in self._source.tensors(shapes, part)]

    def note(self, problem: str) -> None:
        self._source.note(problem)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        self._source.finish(is_ignored)
