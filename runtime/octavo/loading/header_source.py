"""Headers as a source of weights that has no values: for questions about names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import torch

from octavo.loading.headers import TensorHeader
from octavo.loading.source import Slice


class HeaderSource:
    """A `WeightSource` whose tensors lie elsewhere: to ask for one is a mistake of the caller."""

    def __init__(self, headers: Mapping[str, TensorHeader]) -> None:
        self._headers = headers

    def names(self) -> Collection[str]:
        return self._headers.keys()

    def has(self, name: str) -> bool:
        return name in self._headers

    def shape(self, name: str) -> tuple[int, ...] | None:
        header = self._headers.get(name)
        return None if header is None else header.shape

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        raise RuntimeError(f"{', '.join(shapes)}: headers hold no values.")

    def note(self, problem: str) -> NoReturn:
        raise RuntimeError(f"{problem}: headers are not loaded.")

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        """Nothing was opened."""
