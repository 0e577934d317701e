"""What the host waits for, and what is kept until it has."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.sampling.device.samples import DeviceSamples, Samples
from octavo.sampling.state import SampledToken, SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence, StepBatch
from octavo.worker.gpu.readback import Readback
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor


class Stream:
    def __init__(self, *_: object) -> None: ...

    def wait_stream(self, _: Stream) -> None: ...


class Event:
    """Remembers who waited."""

    waited: list[Event]

    def __init__(self, **_: object) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None:
        self.waited.append(self)


@pytest.fixture
def readback(monkeypatch: pytest.MonkeyPatch) -> Readback:
    """Of a GPU whose work is done when it is queued; tensors lie in host memory."""
    monkeypatch.setattr(Event, "waited", [], raising=False)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    return Readback(torch.device("cuda", 0))


def test_what_is_copied_is_held_until_the_copy_is_waited_for(readback: Readback) -> None:
    state = SamplingState(SamplingParams(), None, [1], [])
    samples = Samples(np.zeros(1, dtype=np.int64), [4], [state], [], None, [], 0, [], 0)
    tokens = torch.tensor([7])
    held = weakref.ref(tokens)
    pending = readback.start(DeviceSamples(tokens, torch.zeros(1), None, None), samples)
    del tokens
    assert held() is not None
    assert Event.waited == []
    assert pending.result() == [SampledToken(4, 7)]
    assert len(Event.waited) == 1
    assert held() is None


def test_a_step_that_samples_nothing_is_waited_for_all_the_same(
    readback: Readback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a long prompt would be queued as a whole, chunk behind chunk."""
    make_checkpoint(tmp_path, num_hidden_layers=1)
    executor = make_gpu_executor(tmp_path)
    monkeypatch.setattr(executor.runner, "_readback", readback)
    chunk = ScheduledSequence(0, [5, 6, 7], 0, [0], None)
    pending = executor.submit(StepBatch([chunk]))
    assert Event.waited == []
    assert pending.result() == []
    assert len(Event.waited) == 1
