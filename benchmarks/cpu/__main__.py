"""`python -m benchmarks.cpu`: output tokens/s of `octavo serve`, as ratios to baselines in the same run.

Server and baselines stay loaded, and run in turn: an idle Octavo uses no CPU, and a baseline that waits
on stdin neither. Each round gives one ratio; the table quotes the median. See benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.console import make_console
from benchmarks.cpu.baselines import find_llama_cpp, llama_cpp_baseline, transformers_baseline
from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import BenchmarkModel, Quantization, demo_model, qwen3_0_6b
from benchmarks.cpu.processes import Server
from benchmarks.cpu.rounds import Row, compare

console = make_console()


class ModelChoice(enum.Enum):
    DEMO = "demo"
    QWEN3 = "qwen3"
    ALL = "all"


def choose_models(
    choice: ModelChoice,
    quantizations: Sequence[Quantization],
    work: Path,
    **load: object,
) -> list[BenchmarkModel]:
    """`load` replaces the fields of that name; None leaves a model its own."""
    models = []
    if choice is not ModelChoice.QWEN3:
        models.append(demo_model())
    if choice is not ModelChoice.DEMO:
        models += [qwen3_0_6b(work, quantization) for quantization in quantizations]
    chosen: dict[str, Any] = {name: value for name, value in load.items() if value is not None}
    return [dataclasses.replace(model, **chosen) for model in models]


def run_model(
    model: BenchmarkModel,
    work: Path,
    rounds: int,
    llama_cpp: Path | None,
) -> tuple[list[Row], dict[str, str]]:
    """Its rows, and the baselines' versions."""
    threads = len(os.sched_getaffinity(0))
    flags = []
    if model.quantization is not Quantization.NONE:
        flags = ["--quantization", model.quantization.value]
    with contextlib.ExitStack() as stack:
        baselines = [
            transformers_baseline(model, dtype, 1 if is_one_thread else threads, work)
            for dtype, is_one_thread in model.transformers_forms
        ]
        if model.has_gguf and llama_cpp is not None:
            baselines.append(llama_cpp_baseline(model, llama_cpp, threads, work))
        for baseline in baselines:
            stack.callback(baseline.close)
        server = stack.enter_context(Server(model, work / f"{model.name}.log", flags))
        console.print(f"{model.name}: ready after {server.startup_seconds:.1f} s")
        rows = []
        for concurrency in model.concurrencies:
            rows.append(
                compare(
                    server,
                    [(baseline.name, baseline) for baseline in baselines],
                    model=model.name,
                    concurrency=concurrency,
                    prompt_tokens=model.prompt_tokens,
                    output_tokens=model.output_tokens,
                    rounds=rounds,
                )
            )
            console.print(rows[-1])
        return rows, {baseline.name: baseline.version for baseline in baselines}


def table(rows: Sequence[Row]) -> Table:
    headings = ("model", "requests", "tokens", "octavo tok/s", "baseline", "its tok/s")
    out = Table(*headings, "ratio (min–max)")
    for row in rows:
        load = f"{row.prompt_tokens} + {row.output_tokens}"
        rate = f"{row.octavo_tokens_per_second:.4g}"
        ours = (row.model, str(row.concurrency), load, rate)
        if not row.baselines:
            out.add_row(*ours, "none", "", "")
        for name, other in row.baselines.items():
            out.add_row(
                *ours,
                name,
                f"{other.tokens_per_second:.4g}",
                f"{other.ratio_median:.2f} ({other.ratio_min:.2f}–{other.ratio_max:.2f})",
            )
    return out


def main(
    model: Annotated[ModelChoice, typer.Option(help="which models")] = ModelChoice.ALL,
    quantization: Annotated[
        list[Quantization] | None,
        typer.Option(help="of the Qwen3 shape's weights; repeatable; default: none, int8 and int4"),
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(help="requests at once; repeatable; default: the model's")
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(help="of each request; default: the model's", min=1, max=2000)
    ] = None,
    output_tokens: Annotated[
        int | None,
        typer.Option(help="of each request; 1 times the prompt; default: the model's", min=1),
    ] = None,
    pairs: Annotated[int, typer.Option(help="counted rounds", min=1)] = 3,
    llama_cpp_python: Annotated[
        Path | None,
        typer.Option(help="a Python that has llama-cpp-python and gguf; default: this one"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Octavo against transformers and llama.cpp on this machine's CPU."""
    llama_cpp = find_llama_cpp(llama_cpp_python)
    if llama_cpp is None:
        console.print("llama.cpp: not installed: skipped (pip install llama-cpp-python gguf)")
    rows: list[Row] = []
    versions: dict[str, str] = {"llama.cpp": "not installed: skipped"}
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder:
        work = Path(folder)
        models = choose_models(
            model,
            quantization or list(Quantization),
            work,
            concurrencies=concurrency and tuple(concurrency),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
        )
        for each in models:
            found, their_versions = run_model(each, work, pairs, llama_cpp)
            rows += found
            versions |= their_versions
    console.print(table(rows))
    if out is not None:
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": describe_hardware(),
            "baselines": versions,
            "rows": [row.to_json() for row in rows],
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
