"""What kernels did once is done again, without Python, and nothing else is taken for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)

from octavo.kernels import cpu
from octavo.kernels.cpu.compiling.recording import (
    NotRecordableError,
    Stages,
    Workspace,
    record,
)
from octavo.kernels.cpu.products.small_linear import SmallLinear

WIDTH = 64
_FIRST = torch.tensor([0])


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Layers:
    """Norms, gates and products in a row, over a stream that they change in place."""

    def __init__(self, rows: int, count: int) -> None:
        numbers = torch.Generator().manual_seed(rows + count)
        self.count = count
        self.stream = torch.zeros(rows, WIDTH)
        self.weight = torch.rand(WIDTH, generator=numbers)
        up = torch.randn(4 * WIDTH, WIDTH, generator=numbers) / WIDTH**0.5
        down = torch.randn(WIDTH, 2 * WIDTH, generator=numbers) / WIDTH**0.5
        self.products = SmallLinear(up, None), SmallLinear(down, torch.rand(WIDTH))

    def stages(self) -> Stages:
        pending: torch.Tensor | None = None
        up, down = self.products
        for _ in range(self.count):
            if pending is None:
                hidden = cpu.rms_norm(self.stream, self.weight, 1e-6)
            else:
                hidden = cpu.add_rms_norm(self.stream, pending, self.weight, 1e-6)
            pending = down(cpu.silu_and_mul(up(hidden)))
            yield pending

    def plain(self, stream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.stream.copy_(stream)
        *_, pending = self.stages()
        assert pending is not None
        return self.stream.clone(), pending.clone()


@pytest.mark.parametrize("rows", [1, 7])
def test_a_recording_does_with_new_numbers_what_was_done_with_others(
    rows: int, threads: int
) -> None:
    layers = Layers(rows, 6)
    layers.stream.normal_()
    recording = record(layers.stages, Workspace(2**16))
    assert recording is not None
    for _ in range(300):  # threads that do not wait for each other are found out
        stream = torch.randn(rows, WIDTH)
        layers.stream.copy_(stream)
        recording.run()
        found = layers.stream.clone(), recording.result
        expected = layers.plain(stream)
        assert found[1] is not None
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_what_is_recorded_is_also_done() -> None:
    layers, stream = Layers(3, 2), torch.randn(3, WIDTH)
    expected = layers.plain(stream)
    layers.stream.copy_(stream)
    recording = record(layers.stages, Workspace(2**16))
    assert recording is not None
    assert recording.result is not None
    assert torch.equal(layers.stream, expected[0])
    assert torch.equal(recording.result, expected[1])


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("add_", lambda x: x.add_(1)),
        ("mul", lambda x: x * 2),
        ("clone", lambda x: x[:, ::2].contiguous()),
        ("_to_copy", lambda x: x.bfloat16()),
        ("_local_scalar_dense", lambda x: x[0, 0].item()),
        ("index_select", lambda x: x.index_select(0, _FIRST)),
        ("zeros", lambda x: torch.zeros(3)),
    ],
)
def test_what_torch_computes_is_named(name: str, compute: object) -> None:
    x, weight = torch.randn(2, WIDTH), torch.ones(WIDTH)

    def stages() -> Stages:
        yield cpu.rms_norm(x, weight, 1e-6)
        compute(x)  # type: ignore[operator]
        yield None

    with pytest.raises(NotRecordableError, match=f"^{name}$"):
        record(stages, Workspace(2**16))


def test_views_and_new_tensors_are_no_computation() -> None:
    x, weight = torch.randn(2, WIDTH), torch.ones(WIDTH)

    def stages() -> Stages:
        made = cpu.rms_norm(x.view(2, -1)[:1], weight, 1e-6)
        yield made.unsqueeze(0).view(-1, 16).transpose(0, 1)

    assert record(stages, Workspace(2**16)) is not None


def test_a_workspace_that_is_too_small_grows_until_it_is_not() -> None:
    layers, workspace, tries = Layers(4, 3), Workspace(64), 1
    while record(layers.stages, workspace) is None:
        tries += 1
    assert tries == 8  # 4 rows of 512 floats are 8 KiB


def test_recording_loads_no_compiler_of_torchs() -> None:
    """It takes 150 MB and leaves a folder behind."""
    told = subprocess.run(
        [sys.executable, "-c", _RECORD], capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout.split() == ["1", "False"]


_RECORD = """
import sys, torch
from octavo.kernels import cpu
from octavo.kernels.cpu.compiling.recording import Workspace, record
x = torch.ones(1, 64)
def stages():
    yield cpu.rms_norm(x, x[0], 1e-6)
recording = record(stages, Workspace(4096))
recording.run()
print(len(recording.result), "torch._dynamo" in sys.modules)
"""


def test_recordings_share_a_workspace() -> None:
    workspace = Workspace(2**16)
    several = [Layers(rows, 3) for rows in (1, 5, 2)]
    recordings = [record(layers.stages, workspace) for layers in several]
    for layers, recording in zip(several, recordings, strict=True):
        stream = torch.randn(layers.stream.shape)
        expected = layers.plain(stream)
        layers.stream.copy_(stream)
        assert recording is not None
        recording.run()
        assert recording.result is not None
        assert torch.equal(recording.result, expected[1])
