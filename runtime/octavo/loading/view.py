"""View of a weight source: another that reads through it and changes one thing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from octavo.loading.source import Slice, WeightSource


class SourceView:
    """A `WeightSource` that is another as it is; subclasses say what is not."""

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
        return self._source.tensors(shapes, part)

    def note(self, problem: str) -> None:
        self._source.note(problem)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        self._source.finish(is_ignored)
