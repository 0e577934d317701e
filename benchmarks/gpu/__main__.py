"""`python -m benchmarks.gpu --out results.json`: the engine on one GPU, all of it in under ten minutes.

`--smoke` runs every section on the CPU with a tiny random model: it shows that all of the code runs, and its
figures mean nothing. See benchmarks/README.md.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.console import make_console
from benchmarks.gpu.models import CONFIGS
from benchmarks.gpu.plan import MODELS, SMOKE_MODELS, TOTAL_SECONDS, make_plan
from benchmarks.gpu.report import print_report, print_tables, to_json
from benchmarks.gpu.runner import Runner

console = make_console()


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main(
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
    sections: Annotated[str, typer.Option(help="comma-separated; default: all")] = "",
    models: Annotated[
        str, typer.Option(help="comma-separated; everything is measured of the first")
    ] = "",
    smoke: Annotated[bool, typer.Option("--smoke", help="tiny sizes on the CPU")] = False,
    total_seconds: Annotated[
        float, typer.Option(help="what would start later is skipped")
    ] = TOTAL_SECONDS,
) -> None:
    """Octavo's engine on one GPU: shares of the roofline, throughput, latency, ratios to transformers."""
    chosen = _split(models) or list(SMOKE_MODELS if smoke else MODELS)
    if unknown := [name for name in chosen if name not in CONFIGS]:
        raise typer.BadParameter(f"unknown models {unknown}; known are {', '.join(CONFIGS)}")
    if not smoke and not torch.cuda.is_available():
        raise typer.BadParameter("torch sees no GPU; --smoke runs the code at tiny sizes without.")
    if smoke and out is not None and "results" in out.resolve().parent.parts:
        raise typer.BadParameter("a smoke run's figures mean nothing: keep them out of results/.")
    try:
        plan = make_plan(
            chosen,
            _split(sections),
            has_flashinfer=not smoke and importlib.util.find_spec("flashinfer") is not None,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder:
        runner = Runner(
            Path(folder),
            is_smoke=smoke,
            total_seconds=total_seconds,
            on_report=lambda report: print_report(console, report),
        )
        reports = runner.run(plan)
    console.rule("all")
    print_tables(console, reports, is_smoke=smoke)
    if out is not None:
        result = to_json(reports, is_smoke=smoke, seconds=time.monotonic() - started)
        out.write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
