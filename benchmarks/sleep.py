"""Sleep and waking: what a model that sleeps gives back, and what it takes to fall asleep and wake.

    python -m benchmarks.sleep [--rounds 3] [--kv-cache-memory 1Gi] [--quantization int8] [--draft]

A checkpoint of Qwen3-0.6B's shape with random bfloat16 weights is written to a temporary folder and started
once; then the two levels take turns. The start is of the same process, with everything imported and the files
in the page cache, so that waking is compared with what it saves. Times are of the wall clock and of the CPU,
all threads together; memory is what the process allocated. With `--draft` the model guesses for itself, so
that its weights are there twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.cpu.hardware import describe_hardware
from benchmarks.cpu.models import QWEN3_0_6B, qwen3_0_6b
from octavo import LLM, SamplingParams

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """In seconds, and the bytes that the process holds behind it."""

    wall: float
    cpu: float
    held: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kv-cache-memory", default="1Gi")
    parser.add_argument("--quantization", default="none", help="int8, int4 or none")
    parser.add_argument("--draft", action="store_true", help="the model is its own draft")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = write_checkpoint(Path(work))
        options: dict[str, Any] = {"kv_cache_memory": arguments.kv_cache_memory}
        if arguments.quantization != "none":
            options["quantization"] = arguments.quantization
        if arguments.draft:
            options["speculative_config"] = {"method": "draft_model", "model": str(folder)}
        found = measure(folder, arguments.rounds, options)
    for step, costs in found.items():
        wall, cpu, held = (
            statistics.median(getattr(each, name) for each in costs)
            for name in ("wall", "cpu", "held")
        )
        print(f"{step:10} {wall:6.2f} s, {cpu:6.2f} s of CPU, then {held / _MIB:6.0f} MiB")
    if arguments.out:
        told = {step: [(c.wall, c.cpu, c.held) for c in costs] for step, costs in found.items()}
        arguments.out.write_text(json.dumps({"hardware": describe_hardware(), **told}, indent=1))


def write_checkpoint(work: Path) -> Path:
    """The folder, with weights in one file."""
    folder = qwen3_0_6b(work).folder
    config: dict[str, Any] = QWEN3_0_6B
    hidden, inner, d = (config[name] for name in ("hidden_size", "intermediate_size", "head_dim"))
    queries, keys = d * config["num_attention_heads"], d * config["num_key_value_heads"]
    layer = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (d,),
        "self_attn.k_norm": (d,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (config["vocab_size"], hidden),
        "model.norm": (hidden,),
    }
    for index in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    tensors = {
        f"{name}.weight": (
            torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02
        ).bfloat16()
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def measure(folder: Path, rounds: int, options: dict[str, Any]) -> dict[str, list[Cost]]:
    """By step: the start, and sleep and waking of each level in turns."""
    made: list[LLM] = []

    def start() -> None:
        made.append(
            LLM(str(folder), dtype="bfloat16", device="cpu", enable_sleep_mode=True, **options)
        )

    start()  # imports, and kernels that are compiled once
    made.pop().shutdown()
    found: dict[str, list[Cost]] = {"start": [costs_of(start)]}
    (llm,) = made
    with llm:
        # Pages of the KV cache that were never written are not resident.
        llm.generate(
            [[5 + i] * 512 for i in range(8)], SamplingParams(temperature=0.0, max_tokens=8)
        )
        found["awake"] = [Cost(0.0, 0.0, _anonymous_bytes())]
        for _ in range(rounds):
            for level in (1, 2):
                asleep = costs_of(partial(llm.sleep, level))
                found.setdefault(f"sleep {level}", []).append(asleep)
                found.setdefault(f"wake {level}", []).append(costs_of(llm.wake_up))
    return found


def costs_of(work: Callable[[], None]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, _anonymous_bytes())


def _anonymous_bytes() -> int:
    """What is allocated; pages of mapped files, which the kernel may drop, are not counted."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
