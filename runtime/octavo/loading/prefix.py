"""Prefix of parameter names: a model saved without its head names them without the head's prefix for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from octavo.loading.source import Slice, WeightSource
from octavo.loading.view import SourceView


class WithoutPrefix(SourceView):
    """A `WeightSource` that is asked for `model.norm.weight` and reads `norm.weight`."""

    def __init__(self, source: WeightSource, prefix: str) -> None:
        super().__init__(source)
        self._prefix = prefix

    def names(self) -> Collection[str]:
        return [self._prefix + name for name in self._source.names()]

    def has(self, name: str) -> bool:
        return self._source.has(name.removeprefix(self._prefix))

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._source.shape(name.removeprefix(self._prefix))

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        stored = {name.removeprefix(self._prefix): shape for name, shape in shapes.items()}
        return self._source.tensors(stored, part)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        self._source.finish(lambda name: is_ignored(name) or is_ignored(self._prefix + name))
