"""Worker. One measuring process: a job on stdin, a line of JSON on stdout for everything that happens.

A process of its own per model frees the GPU's memory between models, and contains a fault of the device:
whoever started it goes on with the sections that are left.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks.gpu.context import Context, SectionOverrunError
from benchmarks.gpu.formulas import Roofline
from benchmarks.gpu.results import Outcome
from benchmarks.gpu.scale import FULL, SMOKE
from octavo.errors import DeviceFaultError


def run_section(context: Context, name: str, budget: float) -> dict[str, Any]:
    """Runs one section; how it ended. Raises only what means that the device is gone."""
    section = importlib.import_module(f"benchmarks.gpu.sections.{name}")
    context.begin(budget)
    try:
        result = section.run(context)
    except SectionOverrunError:
        return {
            "outcome": Outcome.CUT.value,
            "notes": [f"cut at its budget of {budget:.0f} s"],
            "error": None,
        }
    return {"outcome": Outcome.DONE.value, "notes": result.notes, "error": None}


def work(job: dict[str, Any], out: TextIO) -> None:
    def send(event: str, **fields: Any) -> None:
        out.write(json.dumps({"event": event, **fields}) + "\n")
        out.flush()

    roofline = job["roofline"]
    context = Context(
        scale=SMOKE if job["is_smoke"] else FULL,
        model=job["model"],
        folder=Path(job["folder"]),
        roofline=None if roofline is None else Roofline(**roofline),
        on_row=lambda row: send("row", row=row),
        started=job["started"],
    )
    for name, budget in job["sections"]:
        send("start", section=name)
        started = time.monotonic()
        is_lost = False
        try:
            end = run_section(context, name, budget)
        except Exception as error:
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"[:2000]
            end = {"outcome": Outcome.FAILED.value, "notes": [], "error": message}
            is_lost = isinstance(error, (DeviceFaultError, torch.AcceleratorError))
        send("end", seconds=time.monotonic() - started, **end)
        if is_lost:
            sys.exit(1)
        context.settle()


def main() -> None:
    # What libraries print belongs on stderr: stdout carries the protocol alone.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work(json.loads(sys.stdin.readline()), out)


if __name__ == "__main__":
    main()
