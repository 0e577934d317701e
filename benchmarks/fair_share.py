"""`python -m benchmarks.fair_share`: one API key's time to first token, in seconds, beside another's load.

A real `octavo serve` on the demo model with two keys. One asks alone, again and again; then the other sends
hundreds of long prompts at once, and the first asks again while they run. The goal is three times the quiet
value; what the first would wait if it had the other's key stands beside it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.console import make_console
from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import demo_model
from benchmarks.cpu.processes import Server
from octavo.client import Client

console = make_console()
LOUD, QUIET = "sk-loud", "sk-quiet"
_LOUD_OUTPUT, _QUIET_OUTPUT = 16, 2
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds to the first token of prompts of one length, medians and the longest; `left` of the other's
    requests were not done at the end."""

    prompt_tokens: int
    alone: float
    alone_longest: float
    beside: float
    beside_longest: float
    ratio: float
    same_key: float
    left: int


def row_of(
    prompt_tokens: int,
    alone: Sequence[float],
    beside: Sequence[float],
    same_key: float,
    left: int,
) -> Row:
    quiet, loaded = statistics.median(alone), statistics.median(beside)
    return Row(
        prompt_tokens=prompt_tokens,
        alone=round(quiet, 4),
        alone_longest=round(max(alone), 4),
        beside=round(loaded, 4),
        beside_longest=round(max(beside), 4),
        ratio=round(loaded / quiet, 2),
        same_key=round(same_key, 3),
        left=left,
    )


def _prompts(length: int, seed: int) -> Iterator[list[int]]:
    numbers = random.Random(seed)
    while True:
        yield [numbers.randrange(5, 250) for _ in range(length)]


def _body(prompt: Sequence[int], max_tokens: int) -> dict[str, Any]:
    return {
        "model": "bench",
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


async def _first_tokens(client: Client, prompts: Sequence[list[int]]) -> list[float]:
    """Of each, one after another."""
    found = []
    for prompt in prompts:
        answer = await client.stream("completions", _body(prompt, _QUIET_OUTPUT))
        assert answer.first_token_seconds is not None
        found.append(answer.first_token_seconds)
        await asyncio.sleep(_PAUSE_SECONDS)
    return found


async def measure(
    url: str, prompt_tokens: int, loud_requests: int, loud_tokens: int, times: int
) -> Row:
    async with Client(url, QUIET) as quiet, Client(url, LOUD) as loud:
        prompts = list(itertools.islice(_prompts(prompt_tokens, 1), 2 * times + 3))
        await _first_tokens(quiet, prompts[:2])  # warms up
        alone = await _first_tokens(quiet, prompts[2 : 2 + times])
        load = [
            asyncio.create_task(loud.stream("completions", _body(prompt, _LOUD_OUTPUT)))
            for prompt in itertools.islice(_prompts(loud_tokens, 2), loud_requests)
        ]
        # Some of them have ended: the load is on.
        await asyncio.wait(load, return_when=asyncio.FIRST_COMPLETED)
        behind = asyncio.create_task(_first_tokens(loud, prompts[-1:]))
        beside = await _first_tokens(quiet, prompts[2 + times : -1])
        left = sum(not task.done() for task in load)
        await asyncio.gather(*load)
        (same_key,) = await behind
    return row_of(prompt_tokens, alone, beside, same_key, left)


def main(
    prompt_tokens: Annotated[
        list[int] | None,
        typer.Option(help="of the quiet key's prompts; repeatable; default: 16, 256, 1000"),
    ] = None,
    loud_requests: Annotated[int, typer.Option(help="of the other key, at once")] = 500,
    loud_tokens: Annotated[int, typer.Option(help="of each of its prompts")] = 1000,
    times: Annotated[int, typer.Option(help="that the quiet key asks, alone and beside")] = 15,
    flag: Annotated[
        list[str] | None, typer.Option(help="of the server, as --max-num-batched-tokens=512")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Time to first token of one API key, alone and beside another's load."""
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder:
        keys = Path(folder) / "keys.json"
        keys.write_text(
            json.dumps([{"key": LOUD, "name": "loud"}, {"key": QUIET, "name": "quiet"}])
        )
        flags = ["--api-key-file", str(keys), *(flag or [])]
        with Server(demo_model(), Path(folder) / "serve.log", flags) as server:
            rows = []
            for length in prompt_tokens or [16, 256, 1000]:
                url = f"http://127.0.0.1:{server.port}"
                rows.append(asyncio.run(measure(url, length, loud_requests, loud_tokens, times)))
                console.print(rows[-1])
    table = Table("prompt", "alone, s", "beside, s", "ratio", "with the same key, s", "left")
    for row in rows:
        table.add_row(
            str(row.prompt_tokens),
            f"{row.alone:.4f} (≤ {row.alone_longest:.4f})",
            f"{row.beside:.4f} (≤ {row.beside_longest:.4f})",
            f"{row.ratio:.2f}",
            f"{row.same_key:.2f}",
            str(row.left),
        )
    console.print(table)
    if out is not None:
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": describe_hardware(),
            "loud_requests": loud_requests,
            "loud_tokens": loud_tokens,
            "rows": [asdict(row) for row in rows],
        }
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
