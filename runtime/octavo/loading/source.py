"""Source of weights: the one question that a model asks while it is built, give me these tensors.

They come as they are stored. Who asks knows what they are to become, and where: a scheme unpacks codes, a
norm stays in float32, a shard reads its part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Slice:
    """The part `[start, stop)` of a tensor along `dim`."""

    dim: int
    start: int
    stop: int

    def of(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """The index that takes the part out of a tensor of this shape."""
        return tuple(
            slice(self.start, self.stop) if dim == self.dim else slice(0, size)
            for dim, size in enumerate(shape)
        )


class WeightSource(Protocol):
    """Parameters by name. What is wrong with them is collected, so that `finish` names all of it at once."""

    def names(self) -> Collection[str]:
        """Of all tensors that the checkpoint holds; none where there is no checkpoint."""
        ...

    def has(self, name: str) -> bool:
        """Whether the checkpoint holds it."""
        ...

    def shape(self, name: str) -> tuple[int, ...] | None:
        """As it is stored, where a format allows several; None: the checkpoint does not hold it."""
        ...

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        """Parameters as they are stored, in the given order; they may be views of a file, so they are read
        and not written.

        A missing one or one of another shape is noted for `finish`; until then zeros stand in for it.

        Args:
            shapes: Of the whole tensors, by name.
            part: Of each of them, what alone is read; None: all.
        """
        ...

    def note(self, problem: str) -> None:
        """Notes for `finish` what who asked finds wrong, such as a dtype."""
        ...

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        """Raises `ModelInvalidError` when something was noted, or a parameter was never asked for.

        Args:
            is_ignored: True for names that checkpoints carry though the model does not need them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Placement:
    """What floating-point weights become: the dtype of the activations, on their device."""

    dtype: torch.dtype
    device: torch.device

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same tensor where it is right as it is."""
        return tensor.to(device=self.device, dtype=self.dtype)

    def empty(self, *shape: int) -> torch.Tensor:
        """Without values."""
        return torch.empty(shape, dtype=self.dtype, device=self.device)


def floating_tensors(
    source: WeightSource, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
) -> list[torch.Tensor]:
    """As `WeightSource.tensors`; any that is no floating-point tensor of 16 bits or more is noted: what is
    narrower has a scale beside it."""
    found = source.tensors(shapes, part)
    for name, tensor in zip(shapes, found, strict=True):
        if not tensor.is_floating_point() or tensor.itemsize == 1:
            source.note(f"{name} is {tensor.dtype}, not a floating-point tensor of 16 or 32 bits")
    return found
