"""Parked weights: a model's tensors in the host's memory while the GPU's is lent to somebody else.

The tensors stay the objects that they are, views of one memory among them: what moves is the memory behind
them. It may come back to another address, so CUDA graphs are to be recorded anew.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import FunctionType, ModuleType

import torch


def park(model: object) -> Callable[[], None]:
    """Moves all weights that `model` holds; what is returned moves them back.

    Raises `torch.OutOfMemoryError` or `RuntimeError`, coming back, where the device has no room any more.
    """
    parked = []
    for storage in storages_of(model):
        if not storage.resizable():  # of a file, or somebody else's
            continue
        copy = _bytes_of(storage).to("cpu", copy=True)
        if storage.device.type == "cuda":
            copy = copy.pin_memory()
        parked.append((storage, copy))
        storage.resize_(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

    def come_back() -> None:
        for storage, copy in parked:
            storage.resize_(copy.numel())
            _bytes_of(storage).copy_(copy)

    return come_back


def storages_of(model: object) -> list[torch.UntypedStorage]:
    """Each once, of all tensors that are reached from the model through objects, containers and closures."""
    found: dict[int, torch.UntypedStorage] = {}
    seen: set[int] = set()
    queue: list[object] = [model]
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType)):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            storage = one.untyped_storage()
            if storage.nbytes():
                found[storage.data_ptr()] = storage
            continue
        # A function's other referents are its module, and with it everything.
        queue += one.__closure__ or () if isinstance(one, FunctionType) else gc.get_referents(one)
    return list(found.values())


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
