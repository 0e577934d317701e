"""Renamed parameters: a checkpoint's by other names than it has for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from octavo.loading.source import Slice, WeightSource
from octavo.loading.view import SourceView


class _Renaming(SourceView):
    """A `WeightSource` that reads what is asked for by other names."""

    def has(self, name: str) -> bool:
        return self._source.has(self._name(name))

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._source.shape(self._name(name))

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return self._source.tensors({self._name(name): one for name, one in shapes.items()}, part)

    def _name(self, asked: str) -> str:
        raise NotImplementedError


class RenamedModules(_Renaming):
    """
    Args:
        stored: Of modules that are asked for, what the checkpoint calls them.
    """

    def __init__(self, source: WeightSource, stored: Mapping[str, str]) -> None:
        super().__init__(source)
        self._stored = stored

    def _name(self, asked: str) -> str:
        module, _, leaf = asked.rpartition(".")
        return f"{self._stored[module]}.{leaf}" if module in self._stored else asked


class Renamed(_Renaming):
    """A `WeightSource` that is asked for `layers.0.mlp…` and reads `midlayer.mlp…`.

    Args:
        asked, stored: What names begin with.
    """

    def __init__(self, source: WeightSource, asked: str, stored: str) -> None:
        super().__init__(source)
        self._asked = asked
        self._stored = stored

    def names(self) -> Collection[str]:
        return [_begun(name, self._stored, self._asked) for name in self._source.names()]

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        self._source.finish(lambda name: is_ignored(_begun(name, self._stored, self._asked)))

    def _name(self, asked: str) -> str:
        return _begun(asked, self._asked, self._stored)


def _begun(name: str, old: str, new: str) -> str:
    return new + name.removeprefix(old) if name.startswith(old) else name
