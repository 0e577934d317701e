"""Weights of experts as a checkpoint holds them: one by one, or a layer's in one stack.

transformers knows by which names checkpoints hold a model's tensors and what it makes of them: its own
mapping is asked. What comes of it is a `WeightSource` that has each expert's matrices by one name, however
they are stored, so that schemes read them as they read any other product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from octavo.loading import Slice, WeightSource
from octavo.loading.view import SourceView
from octavo.models.from_transformers.experts import BIAS, ExpertsLayer
from octavo.quantization.dequantised_source import DequantisedSource

_WEIGHT = ".weight"


@dataclass(frozen=True, slots=True)
class Conversions:
    """How transformers turns names of a checkpoint into those of its modules.

    Args:
        transforms: Its own objects, in its order.
        prefix: Of the base, which checkpoints may leave out.
        parameters: Names of the modules' parameters.
    """

    transforms: Sequence[Any]
    prefix: str
    parameters: Mapping[str, Any]

    def of(self, name: str) -> tuple[str, Any, int]:
        """The parameter that a stored tensor becomes, or a part of; the transform that makes it of several
        (None: it is the whole), and which of that one's sources the tensor is."""
        from transformers.core_model_loading import WeightConverter, rename_source_key

        makers = [one for one in self.transforms if isinstance(one, WeightConverter)]
        renamings = [one for one in self.transforms if not isinstance(one, WeightConverter)]
        target, pattern = rename_source_key(name, renamings, makers, self.prefix, self.parameters)
        for maker in makers:
            if pattern is not None and pattern in maker.source_patterns:
                return target, maker, maker.source_patterns.index(pattern)
        return target, None, 0

    def renamed_modules(self, names: Iterable[str]) -> dict[str, str]:
        """Of modules whose tensors have other names in a checkpoint, and are the same, theirs there."""
        found: dict[str, str] = {}
        for name in names:
            target, maker, _ = self.of(name)
            module, _, leaf = target.rpartition(".")
            stored, _, stored_leaf = name.rpartition(".")
            if maker is None and module != stored and leaf == stored_leaf:
                found[module] = stored
        return found


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where outputs of one expert lie.

    Args:
        name: Of a module, whose tensors have names that begin so; of a stack the whole name.
        expert: In a stack; None: it is no stack.
        rows: In a stack, which outputs of the expert's.
        quantised: Of a quantised stack's tensor, how many experts and outputs it has; None: it is none.
    """

    name: str
    expert: int | None = None
    rows: range | None = None
    quantised: tuple[int, int] | None = None


@dataclass(slots=True)
class ExpertsPlaces:
    """Where a checkpoint holds the experts that are Octavo's.

    Args:
        by_name: Of each product's name, see `ExpertsLayer.parts`.
        tensors: Names of all that are read so.
        shapes: Of stacks, by their names.
        transposed: Stacks that are `[experts, in, out]`.
    """

    by_name: dict[str, _Stored] = field(default_factory=dict)
    tensors: set[str] = field(default_factory=set)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    transposed: set[str] = field(default_factory=set)


def find_places(
    layers: Iterable[ExpertsLayer], source: WeightSource, conversions: Conversions
) -> ExpertsPlaces | str:
    """Of all layers, or which parameter is stored in another way than experts one by one or all in one.

    Args:
        source: With plain weights in place of quantised ones. One without names is of random weights.
    """
    places, layers = ExpertsPlaces(), list(layers)
    found = _tensors_of([layer.path for layer in layers], source.names(), conversions)
    for layer in layers:
        for name, shape in layer.parameters.items():
            parts = found.get(name, {})
            if not source.names():
                places.tensors.add(name)
                own = (part for expert in range(layer.num_experts) for part in layer.parts(expert))
                places.by_name.update({part: _Stored(part) for part in own})
            elif set(parts) == {None} and len(parts[None]) == 1:
                stored = parts[None][0]
                if source.shape(stored) != shape:
                    return name
                _add_stack(places, layer, name, stored, shape)
                _add_quantised(places, layer, name, stored, source)
            elif not _add_each(places, layer, name, parts):
                return name
        if not layer.is_transposed:
            _add_beside(places, layer, found)
    return places


_Found = dict[str, dict[int | None, list[str]]]


def _tensors_of(paths: Collection[str], names: Iterable[str], conversions: Conversions) -> _Found:
    """Of each parameter of these modules the stored tensors, by the number of the source that they are of
    what makes it; None: they are the parameter."""
    from transformers.core_model_loading import dot_natural_key

    found: _Found = {}
    for name in names:
        target, maker, index = conversions.of(name)
        if target.rpartition(".")[0] not in paths:
            continue
        key = None if maker is None else index if _stacks_each(maker) else -1
        found.setdefault(target, {}).setdefault(key, []).append(name)
    for parts in found.values():
        for stored in parts.values():
            stored.sort(key=dot_natural_key)
    return found


def _stacks_each(maker: Any) -> bool:
    """Whether it puts experts behind each other, and of each its sources in their order."""
    from transformers.core_model_loading import Concatenate, MergeModulelist

    first, *others = maker.operations
    is_stack = type(first) is MergeModulelist and first.dim == 0
    if len(maker.source_patterns) == 1:
        return is_stack and not others
    return is_stack and len(others) == 1 and type(others[0]) is Concatenate and others[0].dim == 1


def _add_each(
    places: ExpertsPlaces,
    layer: ExpertsLayer,
    parameter: str,
    parts: Mapping[int | None, Sequence[str]],
) -> bool:
    """Whether there is a matrix of each part of each expert."""
    if layer.is_transposed or layer.has_bias or layer.is_interleaved:
        return False
    for expert in range(layer.num_experts):
        own = [name for name, (of, _) in layer.parts(expert).items() if of == parameter]
        if set(parts) != set(range(len(own))):
            return False
        for index, name in enumerate(own):
            stored = parts[index]
            if len(stored) != layer.num_experts or not stored[expert].endswith(_WEIGHT):
                return False
            places.by_name[name] = _Stored(stored[expert].removesuffix(_WEIGHT))
            places.tensors.add(stored[expert])
    return True


def _add_stack(
    places: ExpertsPlaces,
    layer: ExpertsLayer,
    parameter: str,
    stored: str,
    shape: tuple[int, ...],
) -> None:
    places.tensors.add(stored)
    places.shapes[stored] = shape
    own = parameter.removesuffix(BIAS)
    if own == parameter and layer.is_transposed:
        places.transposed.add(stored)
    for expert in range(layer.num_experts):
        for name, (of, rows) in layer.parts(expert).items():
            if of == own:
                leaf = ".bias" if own != parameter else _WEIGHT
                places.by_name[f"{name}{leaf}"] = _Stored(stored, expert, rows)


def _add_beside(places: ExpertsPlaces, layer: ExpertsLayer, found: _Found) -> None:
    """What lies beside the parameters of all experts, such as scales, by the module's names. Where the module
    has inputs first it is not known which way those lie."""
    for target, parts in found.items():
        is_own = target.rpartition(".")[0] == layer.path and target not in layer.parameters
        if is_own and set(parts) == {None} and len(parts[None]) == 1:
            places.by_name[target] = _Stored(parts[None][0])


def _add_quantised(
    places: ExpertsPlaces, layer: ExpertsLayer, parameter: str, stored: str, source: WeightSource
) -> None:
    """Tensors of a stack that is quantised, by the names that each expert's product has for them."""
    tensors = source.parts_of(stored) if isinstance(source, DequantisedSource) else ()
    for expert in range(layer.num_experts if tensors else 0):
        parts = {name: rows for name, (of, rows) in layer.parts(expert).items() if of == parameter}
        whole = layer.num_experts, sum(len(rows) for rows in parts.values())
        for name, rows in parts.items():
            for tensor in tensors:
                place = _Stored(tensor, expert, rows, whole)
                places.by_name[f"{name}{tensor.removeprefix(stored)}"] = place


class ExpertsSource(SourceView):
    """A `WeightSource` of each expert's matrices by the names of `ExpertsLayer.parts`.

    Args:
        stacks: The source of what lies in stacks: with plain weights in place of quantised ones.
    """

    def __init__(self, source: WeightSource, stacks: WeightSource, places: ExpertsPlaces) -> None:
        super().__init__(source)
        self._stacks = stacks
        self._places = places
        self._last: tuple[str, torch.Tensor] | None = None

    def has(self, name: str) -> bool:
        stored = self._stored(name)
        if stored is None:
            return False
        is_plain_stack = stored.expert is not None and stored.quantised is None
        return is_plain_stack or self._source.has(stored.name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        stored = self._stored(name)
        if stored is None:
            return None
        if stored.expert is None:
            return self._source.shape(stored.name)
        if stored.quantised is not None:
            whole = self._source.shape(stored.name)
            if whole is None or stored.rows is None or whole[:2] != stored.quantised:
                return None  # of a stack of another shape no part is told
            return (len(stored.rows), *whole[2:])
        return tuple(self._of_stack(stored).shape)

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [self._tensor(name, shape, part) for name, shape in shapes.items()]

    def note(self, problem: str) -> None:
        """With the name of the stack that the checkpoint holds."""
        name, _, rest = problem.partition(" ")
        stored = self._places.by_name.get(name)
        super().note(problem if stored is None else f"{stored.name} {rest}")

    def _tensor(self, name: str, shape: tuple[int, ...], part: Slice | None) -> torch.Tensor:
        stored = self._stored(name)
        if stored is None:
            return self._source.tensors({name: shape}, part)[0]  # notes that it is missing
        if stored.expert is None:
            return self._source.tensors({stored.name: shape}, part)[0]
        whole = self._of_stack(stored) if stored.quantised is None else self._of(stored, shape)
        return whole if part is None else whole[part.of(shape)]

    def _of(self, stored: _Stored, shape: tuple[int, ...]) -> torch.Tensor:
        """A quantised stack's part, of which no more than the expert is read."""
        assert stored.expert is not None  # noqa: S101 - else it is no stack
        assert stored.rows is not None  # noqa: S101
        assert stored.quantised is not None  # noqa: S101 - else it is plain
        one = Slice(0, stored.expert, stored.expert + 1)
        (own,) = self._source.tensors({stored.name: (*stored.quantised, *shape[1:])}, one)
        return own[0, _slice(stored.rows)]

    def _stored(self, name: str) -> _Stored | None:
        """Of a tensor: its name, or its place in a stack."""
        found = self._places.by_name.get(name)
        if found is not None:
            return found
        module, _, leaf = name.rpartition(".")
        found = self._places.by_name.get(module)
        return None if found is None else _Stored(f"{found.name}.{leaf}")

    def _of_stack(self, stored: _Stored) -> torch.Tensor:
        """Outputs first. The last stack is kept for the next expert, who is mostly of the same."""
        assert stored.expert is not None  # noqa: S101 - else it is no stack
        assert stored.rows is not None  # noqa: S101
        if self._last is None or self._last[0] != stored.name:
            shape = self._places.shapes[stored.name]
            (whole,) = self._stacks.tensors({stored.name: shape})
            self._last = stored.name, whole
        own = self._last[1][stored.expert]
        if stored.name in self._places.transposed:
            own = own.T
        return own[_slice(stored.rows)]


def _slice(rows: range) -> slice:
    return slice(rows.start, rows.stop, rows.step)
