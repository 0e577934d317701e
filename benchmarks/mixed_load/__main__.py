"""`python -m benchmarks.mixed_load`: inter-token latency of streams while long prompts arrive.

Octavo over HTTP and vLLM's CPU build, both with the same `max_num_batched_tokens`, in turn. Each round gives
one ratio; the table quotes the median. See benchmarks/README.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.console import make_console
from benchmarks.cpu.baselines import VLLM, Baseline, vllm_environment
from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import BenchmarkModel, demo_model, qwen3_0_6b
from benchmarks.cpu.processes import Server
from benchmarks.mixed_load.figures import Figures, Row, figures_of, row_of
from benchmarks.mixed_load.load import STEADY_TOKENS, MixedLoad, Observed
from benchmarks.mixed_load.over_http import observe

console = make_console()
OCTAVO = "octavo"
STEP_TOKENS = (512, 2048)
_WARM_UP_TOKENS = 256
_SMOKE = MixedLoad(
    streams=2, stream_tokens=8, longest=1900, prompts=2, prompt_tokens=64, period=0.1
)


@dataclass(frozen=True, slots=True)
class Side:
    name: str
    version: str
    run: Callable[[MixedLoad], Observed]


@contextlib.contextmanager
def served_side(
    model: BenchmarkModel, load: MixedLoad, step_tokens: int, work: Path
) -> Iterator[Side]:
    log = work / f"octavo-{step_tokens}.log"
    flags = ["--max-num-batched-tokens", str(step_tokens), "--max-num-seqs", str(_num_seqs(load))]
    with Server(model, log, flags) as server:
        console.print(f"octavo, {step_tokens}: ready after {server.startup_seconds:.1f} s")
        url = f"http://127.0.0.1:{server.port}"
        yield Side(OCTAVO, version("octavo"), lambda load: asyncio.run(observe(url, load)))


@contextlib.contextmanager
def vllm_side(
    model: BenchmarkModel, load: MixedLoad, step_tokens: int, python: Path, work: Path
) -> Iterator[Side]:
    baseline = Baseline(
        VLLM.name,
        [str(python), "-m", "benchmarks.mixed_load.vllm_engine", str(model.folder)]
        + ["dummy" if model.dummy_weights else "real"]
        + [str(model.max_model_len), str(_num_seqs(load)), str(step_tokens)],
        work / f"vllm-{step_tokens}.log",
        vllm_environment(python),
    )
    console.print(f"vllm {baseline.version}, {step_tokens}: ready")

    def run(load: MixedLoad) -> Observed:
        streams, prompts = load.texts()
        job = {"streams": streams, "prompts": prompts, "steady_tokens": STEADY_TOKENS}
        return Observed(**baseline.ask(job | {"longest": load.longest, "period": load.period}))

    with contextlib.closing(baseline):
        yield Side(VLLM.name, baseline.version, run)


def _num_seqs(load: MixedLoad) -> int:
    return load.streams + load.prompts


def run_rounds(
    sides: Sequence[Side], load: MixedLoad, step_tokens: int, rounds: int, *, is_smoke: bool
) -> Row:
    """The order turns by one each round; a short window before the first warms everything up.

    Raises RuntimeError where a stream ends within a window.
    """
    short = min(_WARM_UP_TOKENS, load.prompt_tokens)
    warm_up = dataclasses.replace(load, prompts=1, prompt_tokens=short, period=0.0)
    for side in sides:
        side.run(warm_up)
    found: list[dict[str, Figures]] = []
    for number in range(rounds):
        first = number % len(sides)
        ran: dict[str, Figures] = {}
        for side in [*sides[first:], *sides[:first]]:
            observed = side.run(load)
            if observed.num_ended and not is_smoke:
                raise RuntimeError(
                    f"{observed.num_ended} streams of {side.name} ended within the window, at "
                    f"{load.longest} tokens; let fewer prompts come, or sooner."
                )
            ran[side.name] = figures_of(observed)
            console.print(side.name, ran[side.name])
        found.append({side.name: ran[side.name] for side in sides})
    return row_of(step_tokens, OCTAVO, found)


@contextlib.contextmanager
def started(
    model: BenchmarkModel, load: MixedLoad, step_tokens: int, python: Path | None, work: Path
) -> Iterator[list[Side]]:
    """All sides that there are; who waits for his turn uses no CPU."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(served_side(model, load, step_tokens, work))]
        if python is not None:
            sides.append(stack.enter_context(vllm_side(model, load, step_tokens, python, work)))
        yield sides


def table(rows: Sequence[Row]) -> Table:
    out = Table(
        "step's tokens",
        "side",
        "between tokens p50, p99, max ms",
        "first token ms",
        "tokens/s",
        "octavo's p99: ratio (min–max)",
        "first token",
        "tokens/s",
    )
    for row in rows:
        for name, side in row.sides.items():
            ratios = row.ratios.get(name, {})
            out.add_row(
                str(row.max_num_batched_tokens),
                name,
                f"{side.inter_token_p50_ms:.1f}, {side.inter_token_p99_ms:.1f}, "
                f"{side.inter_token_max_ms:.1f}",
                f"{side.first_token_ms:.0f}",
                f"{side.output_tokens_per_second:.1f}",
                *(
                    f"{each.median:.2f} ({each.least:.2f}–{each.most:.2f})"
                    for each in ratios.values()
                ),
            )
    return out


def main(
    step_tokens: Annotated[
        list[int] | None,
        typer.Option(
            "--max-num-batched-tokens",
            help=f"of both; repeatable; default: {', '.join(map(str, STEP_TOKENS))}",
            min=1,
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(help="counted rounds", min=1)] = 2,
    streams: Annotated[int, typer.Option(help="that decode", min=1)] = 16,
    prompts: Annotated[int, typer.Option(help="that arrive in a round", min=1)] = 2,
    prompt_tokens: Annotated[int, typer.Option(help="of each of them", min=1)] = 2048,
    period: Annotated[float, typer.Option(help="seconds between two of them", min=0)] = 8.0,
    vllm_python: Annotated[
        Path | None, typer.Option(help="a Python that has vLLM's CPU build; default: this one")
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(help="the demo model, whose figures mean nothing: shows that it runs"),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Inter-token latency while long prompts arrive, Octavo against vLLM, of Qwen3-0.6B's shape in bf16."""
    python = VLLM.find(vllm_python)
    versions = {VLLM.name: "not measured: not installed"}
    if python is None:
        console.print(f"{VLLM.name}: not measured: not installed (pip install {VLLM.packages})")
    load = MixedLoad(streams=streams, prompts=prompts, prompt_tokens=prompt_tokens, period=period)
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder:
        work = Path(folder)
        model = demo_model() if smoke else qwen3_0_6b(work)
        load = _SMOKE if smoke else load
        model = dataclasses.replace(model, prompt_tokens=(load.max_model_len,), output_tokens=1)
        limits = step_tokens or ([32] if smoke else list(STEP_TOKENS))
        rows = []
        for limit in limits:
            with started(model, load, limit, python, work) as sides:
                rows.append(run_rounds(sides, load, limit, pairs, is_smoke=smoke))
                versions |= {side.name: side.version for side in sides}
    console.print(table(rows))
    if out is not None:
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": describe_hardware(),
            "is_smoke": smoke,
            "model": model.name,
            "load": dataclasses.asdict(load),
            "sides": versions,
            "rows": [row.to_json() for row in rows],
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
