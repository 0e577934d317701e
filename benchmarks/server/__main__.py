"""`python -m benchmarks.server`: what the API process costs, with a model that takes no time.

Octavo's own server, beside a bare Starlette server of events and vLLM's front end, each with a null model
behind it, in turn. Each round gives one ratio; the table quotes the median. See benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.console import make_console
from benchmarks.cpu.baselines import VLLM as VLLM_PEER
from benchmarks.cpu.hardware import describe_hardware
from benchmarks.server.figures import (
    Ran,
    Row,
    Turn,
    flood_load,
    paced_load,
    row_of,
    short_load,
    turn_of,
)
from benchmarks.server.load import Load, LoadError, run_load
from benchmarks.server.sides import OCTAVO, VLLM, Cores, Side, bare_side, our_side, vllm_side
from benchmarks.server.step_clock import StepClock

console = make_console()
STREAMS = (1, 64, 256, 512, 2048)


def take_turn(side: Side, streams: int, clock: StepClock, *, is_smoke: bool = False) -> Turn:
    def ran(load: Load) -> Ran:
        before = side.api_cpu_seconds()
        try:
            measured = run_load(side.port, load, clock)
        except LoadError as error:
            raise LoadError(f"{side.name}, {load}: {error}") from error
        return Ran(load, measured, side.api_cpu_seconds() - before)

    short = ran(short_load(streams, is_smoke=is_smoke))
    flood = ran(flood_load(streams, is_smoke=is_smoke))
    rate = short.load.num_tokens / short.measured.seconds
    return turn_of(short, flood, ran(paced_load(streams, rate, is_smoke=is_smoke)))


def run(
    sides: Sequence[Side],
    streams: Sequence[int],
    rounds: int,
    clock: StepClock,
    *,
    is_smoke: bool = False,
) -> list[Row]:
    """The order turns by one each round."""
    # No more than the servers take at once.
    warm_up = Load(min(8, max(streams)), 4, 16)
    for side in sides:
        run_load(side.port, warm_up, clock)
    rows = []
    for number in streams:
        turns: list[dict[str, Turn]] = []
        for each in range(rounds):
            first = each % len(sides)
            turns.append(
                {
                    side.name: take_turn(side, number, clock, is_smoke=is_smoke)
                    for side in [*sides[first:], *sides[:first]]
                }
            )
        rows.append(row_of(number, OCTAVO, turns))
        console.print(rows[-1])
    return rows


def table(rows: Sequence[Row]) -> Table:
    out = Table(
        "streams",
        "side",
        "requests/s",
        "µs a request",
        "tokens/s",
        "events/s",
        "µs a token",
        "first token p50, p99 ms",
        "age of a token p50, p99 ms",
        "octavo's tokens/s: ratio (min–max)",
    )
    for row in rows:
        for name, turn in row.sides.items():
            ratio = row.ratios.get(name)
            out.add_row(
                str(row.streams),
                name,
                f"{turn.requests_per_second:.0f}",
                f"{turn.request_us:.0f}",
                f"{turn.tokens_per_second:.0f}",
                f"{turn.events_per_second:.0f}",
                f"{turn.token_us:.1f}",
                f"{turn.first_token_p50_ms:.2f}, {turn.first_token_p99_ms:.2f}",
                f"{turn.age_p50_ms:.2f}, {turn.age_p99_ms:.2f}",
                "" if ratio is None else f"{ratio.median:.2f} ({ratio.least:.2f}–{ratio.most:.2f})",
            )
    return out


def main(
    streams: Annotated[
        list[int] | None,
        typer.Option(help=f"at once; repeatable; default: {', '.join(map(str, STREAMS))}", min=1),
    ] = None,
    pairs: Annotated[int, typer.Option(help="counted rounds", min=1)] = 3,
    vllm_python: Annotated[
        Path | None, typer.Option(help="a Python that has vLLM; default: this one")
    ] = None,
    smoke: Annotated[
        bool, typer.Option(help="a few tokens, whose figures mean nothing: shows that it runs")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Octavo's API process against a bare SSE server and vLLM's front end, no model behind any of them."""
    chosen = tuple(streams or STREAMS)
    hardware = describe_hardware()  # before this process is bound to its cores
    # Others may have the cores where a smoke run is a test among many.
    cores = Cores() if smoke else Cores.divided()
    if cores.others:
        os.sched_setaffinity(0, set(map(int, cores.others.split(","))))
    python = VLLM_PEER.find(vllm_python)
    versions = {VLLM: "not measured: not installed"}
    if python is None:
        console.print(f"{VLLM}: not measured: not installed (pip install {VLLM_PEER.packages})")
    with (
        tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder,
        contextlib.ExitStack() as stack,
    ):
        work = Path(folder)
        clock_file = work / "clock"
        clock = StepClock(clock_file)
        sides = [stack.enter_context(our_side(work, clock_file, max(chosen), cores))]
        sides.append(stack.enter_context(bare_side(work, clock_file, cores)))
        if python is not None:
            sides.append(
                stack.enter_context(vllm_side(python, work, clock_file, max(chosen), cores))
            )
        versions |= {side.name: side.version for side in sides}
        rows = run(sides, chosen, pairs, clock, is_smoke=smoke)
    console.print(table(rows))
    if out is not None:
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": hardware,
            "core_of_the_api_process": cores.api or "not bound",
            "rounds": pairs,
            "is_smoke": smoke,
            "sides": versions,
            "rows": [row.to_json() for row in rows],
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
