"""Repeated steps. Decodes of so many sequences are the same kernels over the same memory in each step: from
the third time on they run without Python between them.

A step is written down as it runs, and the next of its size runs both ways: where a bit differs, or where
something else than our kernels computes (experts, layer norms, sums over ranks), all of them stay as they
are, and nothing is lost but that.
"""

from __future__ import annotations

import logging

import torch

from octavo.kernels.cpu.compiling.recording import (
    NotRecordableError,
    Recording,
    Workspace,
    record,
    run_stages,
)
from octavo.layers.step import Blocks
from octavo.models.stream import summed
from octavo.worker.cpu.step_inputs import MAX_REPEATED_ROWS

_FIRST_WORKSPACE_BYTES = 2**18

# Not structlog: `LLM` runs this in processes where nobody has configured it, and it would print.
_log = logging.getLogger(__name__)


class RepeatedSteps:
    """See `Repeats`. Of one model, whose weights, caches and step inputs stay where they are.

    A step has one row for each decode, and nothing that differs between two steps of as many rows but what is
    in their tensors.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[int, bool], _Step] = {}  # by rows, and whether they are watched
        self._workspace = Workspace(_FIRST_WORKSPACE_BYTES)
        self._streams = torch.empty(0)
        self._is_off = False

    def __call__(
        self, residual: torch.Tensor, blocks: Blocks, *, is_watched: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._is_off:
            return residual, run_stages(blocks(residual))
        form = residual.shape[0], is_watched
        step = self._steps.get(form)
        if step is None:
            return self._record(residual, blocks, form)
        if not step.is_checked:
            return self._check(step, residual, blocks)
        return step.run(residual)

    def _record(
        self, residual: torch.Tensor, blocks: Blocks, form: tuple[int, bool]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        stream = self._stream_like(residual).copy_(residual)
        try:
            recording = record(lambda: blocks(stream), self._workspace)
        except NotRecordableError as error:
            self._turn_off(str(error))
            return self(residual, blocks, is_watched=form[1])
        if recording is None:
            return self(residual, blocks, is_watched=form[1])
        self._steps[form] = _Step(recording, stream)
        return stream, recording.result

    def _check(
        self, step: _Step, residual: torch.Tensor, blocks: Blocks
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        repeated = summed(*step.run(residual))
        pending = run_stages(blocks(residual))
        if torch.equal(_bits(repeated), _bits(summed(residual, pending))):
            step.is_checked = True
        else:
            self._turn_off("what was recorded is something else")
        return residual, pending

    def _stream_like(self, residual: torch.Tensor) -> torch.Tensor:
        """The memory of all recorded steps' streams."""
        rows, width = residual.shape
        if not self._streams.numel():
            self._streams = residual.new_empty(MAX_REPEATED_ROWS, width)
        return self._streams[:rows]

    def _turn_off(self, reason: str) -> None:
        self._is_off = True
        self._steps.clear()
        _log.debug("steps are not repeated: %s", reason)


class _Step:
    """Args:
    stream: Where the residual stream of this many rows is.
    """

    __slots__ = ("_recording", "_stream", "is_checked")

    def __init__(self, recording: Recording, stream: torch.Tensor) -> None:
        self._recording = recording
        self._stream = stream
        self.is_checked = False

    def run(self, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._stream.copy_(residual)
        self._recording.run()
        return self._stream, self._recording.result


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """NaN is equal to itself."""
    return tensor.view(torch.uint8)
