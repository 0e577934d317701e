"""Faults of an engine process, as a device has them; imported at its start: `PYTHONPATH` names this folder.

The file that `FAULT_FILE` names says which steps fail, and how: it is read before each step, so that a test
can let a sound engine break, and mend again. `every step`, `device`, or the number of a token: then steps
that run it fail, and with `nan` before the number the scores that follow it are none. `slow`: each takes a
quarter of a second, or ends when the file says so. `no start`: the engine does not begin to start. `gpu`: a
check on a real GPU fails, which takes its context. What a step holds on a lost device must not be freed:
`freed` beside that file says that it was.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if "octavo.engine.process" in sys.orig_argv:
    fault_file = Path(os.environ["FAULT_FILE"])
    parent = os.getppid()
    while fault_file.read_text() == "no start" and os.getppid() == parent:
        time.sleep(0.01)

    import torch

    from octavo.worker.batch import ScheduledSequence, StepBatch
    from octavo.worker.cpu.runner import ModelRunner
    from octavo.worker.gpu.runner import GpuRunner

    run, submit = ModelRunner.run, GpuRunner.submit

    class LostTensor:
        """On a GPU, freeing one would raise in a destructor, and abort the process."""

        def __del__(self) -> None:
            fault_file.with_name("freed").touch()

    def wait_while_slow() -> None:
        until = time.monotonic() + 0.25
        while fault_file.read_text() == "slow" and time.monotonic() < until:
            time.sleep(0.01)

    def without_scores(result: Any, batch: Sequence[ScheduledSequence], token_id: int) -> Any:
        sampled = [entry for entry in batch if entry.sampling is not None]
        for row, entry in enumerate(sampled):
            if token_id in entry.token_ids:
                result.logits[row] = torch.nan
        return result

    def run_or_fail(runner: ModelRunner, batch: Sequence[ScheduledSequence]) -> Any:
        fault = fault_file.read_text()
        if fault == "device":
            held = LostTensor()  # noqa: F841 (by this frame)
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        if fault == "slow":
            wait_while_slow()
            fault = ""
        if fault.startswith("nan "):
            return without_scores(run(runner, batch), batch, int(fault.removeprefix("nan ")))
        if fault == "every step":
            raise RuntimeError("no step works")
        if fault and any(int(fault) in entry.token_ids for entry in batch):
            raise RuntimeError("a bad token")
        return run(runner, batch)

    def submit_or_lose_the_gpu(runner: GpuRunner, batch: StepBatch) -> Any:
        if fault_file.read_text() == "gpu":
            torch._assert_async(torch.zeros((), device=runner.device))
        return submit(runner, batch)

    ModelRunner.run = run_or_fail  # type: ignore[assignment, method-assign]
    GpuRunner.submit = submit_or_lose_the_gpu  # type: ignore[assignment, method-assign]
