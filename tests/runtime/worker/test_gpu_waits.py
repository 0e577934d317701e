"""Nothing between `submit` and its return looks at a value on the device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from torch.overrides import TorchFunctionMode

from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence, StepBatch
from octavo.worker.gpu.readback import Readback
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor

# Each waits for a GPU: the value, or the result's shape, is needed on the host.
_WAITING = (
    "item",
    "tolist",
    "cpu",
    "nonzero",
    "unique",
    "masked_select",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
)
# One way to each of them, and a mask.
LOOKS: tuple[Callable[[torch.Tensor], object], ...] = (
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.cpu,
    torch.Tensor.nonzero,
    torch.Tensor.unique,
    lambda tensor: tensor.masked_select(tensor > 0),
    bool,
    int,
    float,
    lambda tensor: [1, 2][tensor.long()],
    lambda tensor: tensor[tensor > 0],
)


class HostWaits(TorchFunctionMode):
    """Makes these methods of tensors raise, except within a kernel: the reference may look at values.

    A mode of torch's own. Whoever sets `torch.Tensor.__getitem__` and takes it back leaves a class behind
    whose tensors of no dimension pass for sequences, for all tests that follow in the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_watching = False

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        was_watching, self.is_watching = self.is_watching, False
        try:
            yield
        finally:
            self.is_watching = was_watching

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self.is_watching:
            if func.__name__ in _WAITING:
                raise AssertionError(f"Tensor.{func.__name__} waits for the device")
            if func is torch.Tensor.__getitem__ and _has_mask(args[1]):
                raise AssertionError("a boolean mask waits for the device")
        return func(*args, **(kwargs or {}))

    def kernels(self) -> DeviceKernels:
        def wrap(kernel: Any) -> Any:
            if not callable(kernel):
                return kernel

            def run(*args: Any, **kwargs: Any) -> Any:
                with self.allowed():
                    return kernel(*args, **kwargs)

            return run

        wrapped: Any = SimpleNamespace(
            **{name: wrap(getattr(reference, name)) for name in reference.__all__}
        )
        return wrapped  # type: ignore[no-any-return]


def _has_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype is torch.bool for part in parts)


def test_submit_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoint(tmp_path)
    waits = HostWaits()
    executor = make_gpu_executor(tmp_path, kernels=waits.kernels(), max_drafts=4)
    everything = SamplingParams(
        temperature=0.9, top_p=0.9, top_k=5, min_p=0.01, presence_penalty=1.0, logprobs=2
    )

    def entry(index: int, count: int, start: int, params: SamplingParams) -> ScheduledSequence:
        state = SamplingState(params, 3, [4] * 5, [], is_pooled=index == 1)
        return ScheduledSequence(index, [4] * count, start, [index], state)

    steps = [
        StepBatch([entry(i, 5, 0, params) for i in range(3)])
        for params in (SamplingParams(temperature=0.0), everything)
    ]
    steps += [
        StepBatch([entry(i, 1, 5, everything) for i in range(3)], block_copies=[(1, 9)]),
        StepBatch([entry(0, 1, 6, everything), entry(5, 4, 0, everything)], released=[1, 2]),
        StepBatch([msgspec.structs.replace(entry(0, 4, 7, everything), num_drafts=3)]),
    ]
    start = Readback.start

    def start_unwatched(*args: Any) -> Any:
        with waits.allowed():  # its copies go to pinned memory
            return start(*args)

    monkeypatch.setattr(Readback, "start", start_unwatched)
    with waits:
        pending = []
        for step in steps:
            waits.is_watching = True
            pending.append(executor.submit(step))
            waits.is_watching = False
        waits.is_watching = True
        for look in LOOKS:  # the watch itself works
            with pytest.raises(AssertionError, match="waits"):
                look(torch.ones(1))
        waits.is_watching = False
    *rest, guessed = [len(step.result()) for step in pending]
    assert rest == [3, 3, 3, 2]
    assert 1 <= guessed <= 4
