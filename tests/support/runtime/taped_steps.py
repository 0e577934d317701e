"""Stand-in for CUDA graphs on CPU tensors: launches are written down, and done again on the same memory.

What a graph cannot hold fails here too. What Python does between launches is not done again, and tensors that
a recording made keep their places: a step that needs either comes out wrong, as it would from a graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from octavo.kernels.reference import device as reference

_PICKS = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
_WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Tape:
    """Records as `CudaCapture` does, with `kernels` as those of the device: each is one launch.

    Attributes:
        kernels: Of the shape of `DeviceKernels`.
        num_replays: Of all recordings together, but for the first of each.
    """

    def __init__(self) -> None:
        self.num_replays = 0
        self._launches: list[_Launch] | None = None
        self._is_within_kernel = False
        self.kernels: Any = SimpleNamespace(
            **{name: self._kernel(getattr(reference, name)) for name in reference.__all__}
        )

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        launches: list[_Launch] = []
        self._launches = launches
        try:
            # transformers asks, and leaves checks of values out meanwhile.
            asked = patch("torch.cuda.is_current_stream_capturing", lambda: True)
            with asked, _Operations(self.launch):
                work()
        finally:
            self._launches = None

        def replay() -> None:
            self.num_replays += 1
            for one in launches:
                one.repeat()

        return replay

    def launch(self, func: Any, args: Any, kwargs: Any) -> Any:
        made = func(*args, **kwargs)
        if self._launches is not None and not self._is_within_kernel:
            if _waits(func, args):
                raise RuntimeError(f"{func} is not permitted while a stream is recorded")
            self._launches.append(_Launch(func, args, kwargs, made))
        return made

    def _kernel(self, kernel: Any) -> Any:
        if not callable(kernel):
            return kernel

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._launches is None or self._is_within_kernel:
                return kernel(*args, **kwargs)
            self._is_within_kernel = True
            try:
                made = kernel(*args, **kwargs)
            finally:
                self._is_within_kernel = False
            self._launches.append(_Launch(kernel, args, kwargs, made))
            return made

        return call


@dataclasses.dataclass(frozen=True, slots=True)
class _Launch:
    func: Any
    args: Any
    kwargs: Any
    made: Any

    def repeat(self) -> None:
        again = self.func(*self.args, **self.kwargs)
        for place, new in zip(_tensors(self.made), _tensors(again), strict=True):
            if place.data_ptr() != new.data_ptr():
                place.copy_(new)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, launch: Callable[..., Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._launch = launch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._launch(func, args, kwargs or {})


def _waits(func: Any, args: Any) -> bool:
    if func in _PICKS:
        return any(one is not None and one.dtype is torch.bool for one in args[1])
    return bool(_WAITS & set(func.tags))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if dataclasses.is_dataclass(value):
        value = [getattr(value, part.name) for part in dataclasses.fields(value)]
    return (one for one in tree_leaves(value) if isinstance(one, torch.Tensor))
