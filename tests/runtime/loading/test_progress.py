"""Bytes that have come are told now and then, and at the end in full."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog.testing
from safetensors.torch import load_file

from octavo.loading import SafetensorsWeights
from octavo.loading.progress import ByteCount, telling
from octavo.server.process.progress import BytesShown
from tests.support.runtime.checkpoints import make_checkpoint


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_bytes_are_told_twice_a_second_at_most() -> None:
    clock, told = Clock(), list[tuple[int, int]]()
    count = ByteCount(lambda *n: told.append(n), 100, clock)
    for _ in range(8):
        clock.now += 0.25
        count.add(10)
    assert told == [(20, 100), (40, 100), (60, 100), (80, 100)]
    count.finish()
    assert told[-1] == (100, 100)


def test_more_than_was_expected_is_no_more_than_all() -> None:
    clock, told = Clock(), list[tuple[int, int]]()
    count = ByteCount(lambda *n: told.append(n), 10, clock)
    clock.now = 1.0
    count.add(30)
    assert told == [(30, 30)]


def test_a_load_tells_of_all_weights(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    told = list[tuple[int, int]]()
    with telling(lambda *n: told.append(n)):
        weights = SafetensorsWeights(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    weights.tensors({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    weights.finish(lambda name: False)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert told[-1] == (size, size)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_lines_come_every_ten_seconds_and_at_the_end(
    is_terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    bytes_shown = BytesShown("downloading", is_terminal=is_terminal, clock=clock)
    with structlog.testing.capture_logs() as lines, bytes_shown as shown:
        clock.now += 90.0  # of other phases
        shown.begin_phase()
        for done in range(0, 2500, 100):
            clock.now += 1.0
            shown(done, 2400)
    if is_terminal:
        assert not lines
        return
    assert [line["bytes"] for line in lines] == [900, 1900, 2400]
    assert lines[0]["bytes_per_second"] == 90
