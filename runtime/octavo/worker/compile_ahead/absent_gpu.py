"""Absent GPU. A GPU that is not there, on which the worker's own code takes its steps: shapes without memory.

Tensors on it are torch's fake tensors, which have a shape, a dtype, strides and a device, and refuse what
a GPU would refuse: operands on different devices, shapes that do not fit. The host's side is real: what is
uploaded is packed, and what is read back is zeros. Values are never computed, and CUDA is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

# More than anything asks for: nothing is allocated.
_MEMORY_BYTES = 2**50
# Of a storage's first byte: torch's allocator begins each at a multiple of 512.
_FIRST_ADDRESS = 2**30


@dataclass(frozen=True, slots=True)
class Chip:
    """What kernels are chosen by.

    Args:
        capability: 80 for an A100, 90 for an H100.
    """

    capability: int
    num_multiprocessors: int


@contextmanager
def absent_gpu(chip: Chip) -> Iterator[torch.device]:
    """Until it ends `torch.cuda` tells of this chip, and tensors made on the device are fake.

    For a whole process: nothing else in it may use a GPU meanwhile.
    """
    host = {"from_numpy": _outside(torch.from_numpy)}
    with (
        _exchanged(torch.cuda, _stand_ins(chip)),
        _exchanged(torch, host),
        FakeTensorMode(),
        _HostMemory(),
    ):
        yield torch.device("cuda", 0)


class _HostMemory(TorchFunctionMode):
    """Pinned memory is the host's own and holds zeros; addresses are what they are in a storage."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("pin_memory") and func in (torch.zeros, torch.empty):
            return _outside(_host_zeros)(args[0], kwargs["dtype"])
        if func is torch.Tensor.data_ptr:
            return _address(args[0])
        if func is torch.Tensor.pin_memory:
            return args[0]
        if func is torch.Tensor.copy_ and _is_real(args[0]) != _is_real(args[1]):
            return args[0]
        if args and _is_real(args[0]):
            return _outside(func)(*args, **kwargs)
        return func(*args, **kwargs)


def _is_real(value: object) -> bool:
    return type(value) is torch.Tensor


def _address(tensor: torch.Tensor) -> int:
    if tensor.device.type != "cuda":
        raise RuntimeError(
            f"A kernel is given a tensor of shape {list(tensor.shape)} on {tensor.device}."
        )
    return _FIRST_ADDRESS + int(tensor.storage_offset()) * tensor.element_size()


def _host_zeros(shape: int | tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """`torch.zeros` is a GPU's here. NumPy has no bfloat16: its bytes are."""
    sizes = (shape,) if isinstance(shape, int) else shape
    numbers = np.zeros(math.prod(sizes) * dtype.itemsize, np.uint8)
    return torch.from_numpy(numbers).view(dtype).view(sizes)


def _outside(function: Callable[..., Any]) -> Callable[..., Any]:
    """Works on real tensors, also where torch makes fake ones."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return run


class _Queue:
    """A stream, an event, a graph: what is queued has been done."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def record(self, *_: object) -> None: ...

    def synchronize(self) -> None: ...

    def wait_stream(self, _: object) -> None: ...

    def replay(self) -> None: ...


def _stand_ins(chip: Chip) -> dict[str, object]:
    """What the worker asks of `torch.cuda`."""

    def nothing(*_: object, **__: object) -> None: ...

    def none_used(*_: object) -> int:
        return 0

    return {
        "Event": _Queue,
        "Stream": _Queue,
        "CUDAGraph": _Queue,
        "current_stream": _Queue,
        "stream": nullcontext,
        "graph": lambda *_, **__: nullcontext(),
        "graph_pool_handle": nothing,
        "synchronize": nothing,
        "empty_cache": nothing,
        "reset_peak_memory_stats": nothing,
        "mem_get_info": lambda *_: (_MEMORY_BYTES, _MEMORY_BYTES),
        "memory_reserved": none_used,
        "memory_allocated": none_used,
        "max_memory_allocated": none_used,
        "get_device_capability": lambda *_: divmod(chip.capability, 10),
        "get_device_properties": lambda *_: SimpleNamespace(
            multi_processor_count=chip.num_multiprocessors
        ),
    }


@contextmanager
def _exchanged(module: object, members: Mapping[str, object]) -> Iterator[None]:
    before = {name: getattr(module, name) for name in members}
    for name, value in members.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
