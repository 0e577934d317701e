"""`python -m benchmarks.grammar_cost`: what a token costs more when it must follow a schema.

`LLM` in one process, temperature 1. In every round the same requests are answered freely, held to one schema,
and each to a schema of its own, in turn; all write the same number of tokens. A figure is the median of the
rounds' differences and ratios, in time of the wall clock and of all threads. Two vocabularies: the demo
model's, and one of 151,936 made-up words on Qwen3-0.6B's shape with random weights.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import DEMO, QWEN3_0_6B
from octavo import LLM, SamplingParams
from octavo.structured_outputs import StructuredOutputsParams

ROWS = (1, 8, 32)
_ENDLESS = 100_000  # members of the list: no answer comes to its end


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one more token, held to a schema beside free: differences in microseconds, and ratios."""

    model: str
    rows: int
    schemas: str
    wall_us: float
    cpu_us: float
    wall_ratio: float
    cpu_ratio: float
    wall_ratios: tuple[float, ...]


def main(
    rounds: Annotated[int, typer.Option(help="counted ones", min=1)] = 5,
    rows: Annotated[list[int] | None, typer.Option(help="requests at once; repeatable")] = None,
    layers: Annotated[int, typer.Option(help="of the larger model; 0 leaves it out")] = 28,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    chosen = tuple(rows or ROWS)
    found: list[Cost] = []
    with tempfile.TemporaryDirectory(prefix="octavo-bench-") as work:
        found += _measured("demo", str(DEMO), chosen, rounds, 100)
        if layers:
            folder = write_large_vocabulary(Path(work) / "large", layers)
            found += _measured("151,936 words", str(folder), chosen, rounds, 32, dummy=True)
    if out is not None:
        result = {"hardware": describe_hardware(), "rounds": rounds, "layers": layers}
        out.write_text(json.dumps({**result, "costs": [asdict(one) for one in found]}, indent=1))


def _measured(
    name: str, folder: str, rows: Sequence[int], rounds: int, tokens: int, *, dummy: bool = False
) -> list[Cost]:
    options: dict[str, Any] = {"load_format": "dummy", "dtype": "bfloat16"} if dummy else {}
    found: list[Cost] = []
    with LLM(folder, device="cpu", max_model_len=256, kv_cache_memory="1Gi", **options) as llm:
        for count in rows:
            sides = {kind: _params(kind, count, tokens) for kind in ("free", "one", "each its own")}
            for params in sides.values():  # compiles, and fills what the lexers remember
                _run(llm, params)
            ran: dict[str, list[tuple[float, float]]] = {kind: [] for kind in sides}
            for number in range(rounds):
                order = list(sides)
                for kind in order[number % 3 :] + order[: number % 3]:
                    ran[kind].append(_run(llm, sides[kind]))
            for kind in ("one", "each its own"):
                cost = _cost(name, count, kind, tokens, ran["free"], ran[kind])
                print(
                    f"{name}, {count} rows, schema: {kind}: {cost.wall_us:+.0f} µs a token "
                    f"({cost.cpu_us:+.0f} of CPU), {cost.wall_ratio:.2f} times the free one's time "
                    f"({min(cost.wall_ratios):.2f}–{max(cost.wall_ratios):.2f}), "
                    f"{cost.cpu_ratio:.2f} of CPU",
                    flush=True,
                )
                found.append(cost)
    return found


def _cost(
    model: str,
    rows: int,
    schemas: str,
    tokens: int,
    free: list[tuple[float, float]],
    held: list[tuple[float, float]],
) -> Cost:
    pairs = list(zip(held, free, strict=True))
    more = [[(a[i] - b[i]) / (rows * tokens) * 1e6 for a, b in pairs] for i in range(2)]
    ratios = [[a[i] / b[i] for a, b in pairs] for i in range(2)]
    return Cost(
        model,
        rows,
        schemas,
        wall_us=statistics.median(more[0]),
        cpu_us=statistics.median(more[1]),
        wall_ratio=statistics.median(ratios[0]),
        cpu_ratio=statistics.median(ratios[1]),
        wall_ratios=tuple(ratios[0]),
    )


def _params(kind: str, rows: int, tokens: int) -> list[SamplingParams]:
    if kind == "free":
        return [SamplingParams(temperature=1.0, max_tokens=tokens, ignore_eos=True)] * rows
    return [
        SamplingParams(
            temperature=1.0,
            max_tokens=tokens,
            structured_outputs=StructuredOutputsParams(json=_schema(0 if kind == "one" else row)),
        )
        for row in range(rows)
    ]


def _schema(number: int) -> dict[str, Any]:
    """Objects with a text and a number."""
    members = {f"name_{number}": {"type": "string", "maxLength": 40}, "age": {"type": "integer"}}
    item = {"type": "object", "properties": members, "required": list(members)}
    return {
        "type": "array",
        "items": {**item, "additionalProperties": False},
        "minItems": _ENDLESS,
    }


def _run(llm: LLM, params: list[SamplingParams]) -> tuple[float, float]:
    """Seconds of the wall clock, and of the CPU."""
    prompts = [[100 + (7 * row + place) % 900 for place in range(8)] for row in range(len(params))]
    wall, cpu = time.perf_counter(), time.process_time()
    outputs = llm.generate(prompts, params)
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    wanted = params[0].max_tokens
    lengths = {len(one.outputs[0].token_ids) for one in outputs}
    assert lengths == {wanted}, f"{lengths} tokens, where all should write {wanted}"
    return seconds


def write_large_vocabulary(folder: Path, layers: int) -> Path:
    """The demo model's tokenizer with as many more words as Qwen3 has tokens."""
    folder.mkdir()
    config = {**QWEN3_0_6B, "num_hidden_layers": layers, "eos_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {one["content"]: one["id"] for one in tokenizer["added_tokens"]}
    draw = random.Random(0)
    number = max(vocabulary.values()) + 1
    while number < config["vocab_size"]:
        letters = "".join(draw.choices("etaoinshrdlucmfwypvbgk", k=draw.randint(2, 9)))
        word = (
            draw.choice(["Ġ", "", ""]) + letters + draw.choice(["", "", "", "s", "ing", ",", '"'])
        )
        if word not in vocabulary:
            vocabulary[word] = number
            number += 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = (DEMO / "tokenizer_config.json").read_bytes()
    (folder / "tokenizer_config.json").write_bytes(settings)
    return folder


if __name__ == "__main__":
    typer.run(main)
