"""Dequantised source: a checkpoint's quantised weights as the plain ones that they stand for.

For what is not multiplied in its stored form, such as matrices that a reader merges into one tensor first.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

import torch

from octavo.loading import Slice, WeightSource
from octavo.loading.view import SourceView
from octavo.quantization.stored import HoldsParameters, StoredFormat, StoredParameter

_WEIGHT, _BIAS = ".weight", ".bias"


class DequantisedSource(SourceView):
    """A weight is made when it is asked for, in `dtype`, on the host."""

    def __init__(self, source: WeightSource, stored: StoredFormat, dtype: torch.dtype) -> None:
        super().__init__(source)
        self._format = stored
        self._dtype = dtype

    @functools.cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of quantised weights, by the names of their modules."""
        modules = dict.fromkeys(name.rpartition(".")[0] for name in self._source.names())
        sizes = {module: self._format.sizes(module, self._source) for module in modules}
        return {module: size for module, size in sizes.items() if size is not None}

    @functools.cached_property
    def _parameters(self) -> Mapping[str, StoredParameter]:
        """Of more than two dimensions."""
        stored = self._format
        return stored.parameters(self._source) if isinstance(stored, HoldsParameters) else {}

    @functools.cached_property
    def _parts(self) -> frozenset[str]:
        """Names of the tensors that those lie in."""
        return frozenset(part for one in self._parameters.values() for part in one.tensors)

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Names of the tensors that a quantised parameter of more than two dimensions lies in; none where it
        is none."""
        found = self._parameters.get(name)
        return () if found is None else found.tensors

    def names(self) -> Collection[str]:
        kept = [name for name in self._source.names() if not self._is_part(name)]
        return [*kept, *(f"{module}{_WEIGHT}" for module in self._sizes), *self._parameters]

    def has(self, name: str) -> bool:
        is_made = self._size(name) is not None or name in self._parameters
        return is_made or (self._source.has(name) and not self._is_part(name))

    def shape(self, name: str) -> tuple[int, ...] | None:
        if name in self._parameters:
            return self._parameters[name].shape
        return self._size(name) or self._source.shape(name)

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [self._tensor(name, shape, part) for name, shape in shapes.items()]

    def _tensor(self, name: str, shape: tuple[int, ...], part: Slice | None) -> torch.Tensor:
        whole = self._made(name, shape)
        if whole is None:
            return self._source.tensors({name: shape}, part)[0]
        return whole if part is None else whole[part.of(shape)]

    def _made(self, name: str, shape: tuple[int, ...]) -> torch.Tensor | None:
        """None for what is stored as it is, or has another shape."""
        size, stored = self._size(name), self._format
        parameter = self._parameters.get(name)
        if parameter is not None and parameter.shape == shape:
            assert isinstance(stored, HoldsParameters)  # noqa: S101 - who else has any
            return stored.parameter(name, self._source, self._dtype)
        if size != shape:
            return None
        found = stored.read(name.removesuffix(_WEIGHT), *size, self._source)
        return None if found is None else found.dequantize().to(self._dtype)

    def _size(self, name: str) -> tuple[int, int] | None:
        return self._sizes.get(name.removesuffix(_WEIGHT)) if name.endswith(_WEIGHT) else None

    def _is_part(self, name: str) -> bool:
        """Whether it is of a quantised weight's tensors."""
        if name in self._parts:
            return True
        return not name.endswith(_BIAS) and name.rpartition(".")[0] in self._sizes
