"""`python -m benchmarks.cpu`: output tokens/s of `octavo serve`, as ratios to baselines in the same run.

Server and baselines stay loaded, and run in turn: an idle Octavo uses no CPU, and a baseline that waits
on stdin neither. Each round gives one ratio; the table quotes the median. See benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.console import make_console
from benchmarks.cpu.baselines import (
    LLAMA_CPP,
    OPENVINO,
    VLLM,
    Baseline,
    Peer,
    in_process,
    llama_cpp_baseline,
    openvino_baseline,
    transformers_baseline,
    vllm_baseline,
)
from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import (
    BenchmarkModel,
    Quantization,
    demo_model,
    qwen3_0_6b,
    qwen3_0_6b_stored,
)
from benchmarks.cpu.processes import Server
from benchmarks.cpu.read_bandwidth import read_bandwidth
from benchmarks.cpu.rounds import Row, bandwidth_shares, compare
from benchmarks.cpu.stored_checkpoints import Checkpoint

console = make_console()


class ModelChoice(enum.Enum):
    DEMO = "demo"
    QWEN3 = "qwen3"
    ALL = "all"


def choose_models(
    choice: ModelChoice,
    quantizations: Sequence[Quantization],
    checkpoints: Sequence[Checkpoint],
    work: Path,
    **load: object,
) -> Iterator[BenchmarkModel]:
    """Each is written when it is its turn.

    Args:
        load: Replaces the fields of that name; None leaves a model its own.
    """
    chosen: dict[str, Any] = {name: value for name, value in load.items() if value is not None}
    is_shaped = choice is not ModelChoice.DEMO
    if choice is not ModelChoice.QWEN3:
        yield dataclasses.replace(demo_model(), **chosen)
    for quantization in quantizations if is_shaped else ():
        yield dataclasses.replace(qwen3_0_6b(work, quantization), **chosen)
    for checkpoint in checkpoints if is_shaped else ():
        yield dataclasses.replace(qwen3_0_6b_stored(work, checkpoint), **chosen)


def discard(model: BenchmarkModel, work: Path) -> None:
    """The files that its run alone needed: gigabytes, of several."""
    for gguf in work.glob("*.gguf"):
        gguf.unlink()
    if model.folder.is_relative_to(work):
        shutil.rmtree(model.folder)


def start_baselines(
    model: BenchmarkModel, work: Path, peers: Mapping[Peer, Path | None]
) -> Iterator[Baseline]:
    """One after another: the caller closes what has started when the next one fails."""
    threads = len(os.sched_getaffinity(0))
    if model.is_in_process_too:
        yield in_process(model, work)
    for dtype, is_one_thread in model.transformers_forms:
        yield transformers_baseline(model, dtype, 1 if is_one_thread else threads, work)
    if model.gguf is not None and (python := peers[LLAMA_CPP]) is not None:
        yield llama_cpp_baseline(model, model.gguf, python, threads, work)
    if model.has_peers and (python := peers[VLLM]) is not None:
        yield vllm_baseline(model, python, work)
    if model.has_peers and (python := peers[OPENVINO]) is not None:
        yield openvino_baseline(model, python, threads, work)


def run_model(
    model: BenchmarkModel, work: Path, rounds: int, peers: Mapping[Peer, Path | None]
) -> tuple[list[Row], dict[str, str]]:
    """Its rows, and the baselines' versions."""
    flags = []
    if model.quantization is not Quantization.NONE:
        flags = ["--quantization", model.quantization.value]
    with contextlib.ExitStack() as stack:
        baselines = []
        for baseline in start_baselines(model, work, peers):
            stack.callback(baseline.close)
            baselines.append(baseline)
        server = stack.enter_context(Server(model, work / f"{model.name}.log", flags))
        console.print(f"{model.name}: ready after {server.startup_seconds:.1f} s")
        rows = []
        for prompt_tokens, concurrency in itertools.product(
            model.prompt_tokens, model.concurrencies
        ):
            row = compare(
                server,
                [(baseline.name, baseline) for baseline in baselines],
                model=model.name,
                concurrency=concurrency,
                prompt_tokens=prompt_tokens,
                output_tokens=model.output_tokens,
                rounds=rounds,
            )
            row = dataclasses.replace(row, api_cpu_share=round(server.api_cpu_share, 4))
            if model.bytes_per_token and concurrency == 1 and model.output_tokens > 1:
                bandwidth = read_bandwidth(len(os.sched_getaffinity(0)))
                console.print(f"read bandwidth: {bandwidth / 1e9:.1f} GB/s")
                shares = bandwidth_shares(row, model.bytes_per_token, bandwidth)
                row = dataclasses.replace(row, bandwidth_shares=shares)
            rows.append(row)
            console.print(row)
        return rows, {baseline.name: baseline.version for baseline in baselines}


def table(rows: Sequence[Row]) -> Table:
    headings = (
        "model",
        "requests",
        "tokens",
        "octavo tok/s",
        "API process",
        "baseline",
        "its tok/s",
    )
    out = Table(*headings, "ratio (min–max)")
    for row in rows:
        load = f"{row.prompt_tokens} + {row.output_tokens}"
        rate = f"{row.octavo_tokens_per_second:.4g}"
        share = f"{100 * row.api_cpu_share:.2f} %"
        ours = (row.model, str(row.concurrency), load, rate, share)
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
    checkpoint: Annotated[
        list[Checkpoint] | None,
        typer.Option(help="of the Qwen3 shape, stored in 4 bits, instead; repeatable"),
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(help="requests at once; repeatable; default: the model's")
    ] = None,
    prompt_tokens: Annotated[
        list[int] | None,
        typer.Option(help="of each request; repeatable; default: the model's", min=1, max=8000),
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
    vllm_python: Annotated[
        Path | None, typer.Option(help="a Python that has vLLM's CPU build; default: this one")
    ] = None,
    openvino_python: Annotated[
        Path | None,
        typer.Option(help="a Python that has openvino-genai, optimum-intel; default: this one"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Octavo against transformers, llama.cpp, vLLM and OpenVINO GenAI on this machine's CPU."""
    named = {LLAMA_CPP: llama_cpp_python, VLLM: vllm_python, OPENVINO: openvino_python}
    peers = {peer: peer.find(python) for peer, python in named.items()}
    rows: list[Row] = []
    versions: dict[str, str] = {}
    for peer, interpreter in peers.items():
        if interpreter is None:
            versions[peer.name] = "not measured: not installed"
            console.print(f"{peer.name}: not measured: not installed (pip install {peer.packages})")
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder:
        work = Path(folder)
        models = choose_models(
            model,
            quantization or ([] if checkpoint else list(Quantization)),
            checkpoint or [],
            work,
            concurrencies=concurrency and tuple(concurrency),
            prompt_tokens=prompt_tokens and tuple(prompt_tokens),
            output_tokens=output_tokens,
        )
        for each in models:
            found, their_versions = run_model(each, work, pairs, peers)
            rows += found
            versions |= their_versions
            discard(each, work)
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
