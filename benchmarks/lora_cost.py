"""`python -m benchmarks.lora_cost`: what adapters cost in prompts and decodes, against the base model alone.

One process, a model of Qwen3-0.6B's shape with some of its layers and random weights, bfloat16; adapters of
all linear modules. The base model and each adapter take turns in every round. A figure is the shortest time
with the adapter beside the shortest without, which a busy machine disturbs least; the median of the rounds'
ratios stands behind it. Decodes of many requests have an adapter each.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file

from benchmarks.cpu.models import DEMO, QWEN3_0_6B
from octavo import LLM, LoRARequest, SamplingParams
from octavo.config import ModelImplementation

_LAYERS = 4
_SHAPES = {
    "self_attn.q_proj": (2048, 1024),
    "self_attn.k_proj": (1024, 1024),
    "self_attn.v_proj": (1024, 1024),
    "self_attn.o_proj": (1024, 2048),
    "mlp.gate_proj": (3072, 1024),
    "mlp.up_proj": (3072, 1024),
    "mlp.down_proj": (1024, 3072),
}


def main(
    pairs: Annotated[int, typer.Option(help="rounds")] = 7,
    prompt_tokens: Annotated[int, typer.Option(help="of a prompt")] = 1024,
    model_impl: Annotated[ModelImplementation, typer.Option(help="whose code runs")] = (
        ModelImplementation.AUTO
    ),
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = _save_model(folder / "base")
        adapters = {
            rank: [
                LoRARequest(
                    f"r{rank}-{i}", 100 * rank + i, str(_save(folder / f"{rank}-{i}", rank))
                )
                for i in range(8 if rank == 16 else 1)
            ]
            for rank in (8, 16, 64)
        }
        with LLM(
            str(base),
            load_format="dummy",
            model_impl=model_impl,
            dtype="bfloat16",
            device="cpu",
            enable_lora=True,
            max_loras=8,
            max_lora_rank=64,
            max_num_batched_tokens=prompt_tokens,
            enable_prefix_caching=False,
        ) as llm:
            _report(llm, adapters, pairs, prompt_tokens)


def _report(
    llm: LLM, adapters: dict[int, list[LoRARequest]], pairs: int, prompt_tokens: int
) -> None:
    sides = {f"rank {rank}": own[:1] for rank, own in adapters.items()}
    for rank in adapters:
        _seconds(llm, prompt_tokens, 1, adapters[rank][:1])
    for words, length, output, count, compared in (
        (f"prompt of {prompt_tokens}", prompt_tokens, 1, 1, sides),
        ("decodes at 1", 4, 33, 1, sides),
        ("decodes at 8, 8 adapters", 4, 33, 8, {"rank 16": adapters[16]}),
    ):
        alone: list[float] = []
        times: dict[str, list[float]] = {side: [] for side in compared}
        for _ in range(pairs):
            alone.append(_seconds(llm, length, output, [None] * count))
            for side, own in compared.items():
                times[side].append(_seconds(llm, length, output, own))
        for side, found in times.items():
            ratios = [one / base for one, base in zip(found, alone, strict=True)]
            print(
                f"{words}, {side}: {min(found) / min(alone):.3f} of the base's time (median of ratios "
                f"{statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )


def _seconds(llm: LLM, length: int, output: int, adapters: Sequence[LoRARequest | None]) -> float:
    prompts = [[(7 * i + place) % 1000 for place in range(length)] for i in range(len(adapters))]
    sampling = SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True)
    started = time.perf_counter()
    llm.generate(prompts, sampling, lora_request=adapters)
    return time.perf_counter() - started


def _save_model(folder: Path) -> Path:
    folder.mkdir()
    config = {**QWEN3_0_6B, "num_hidden_layers": _LAYERS}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((DEMO / name).read_bytes())
    return folder


def _save(folder: Path, rank: int) -> Path:
    folder.mkdir()
    tensors = {}
    for layer in range(_LAYERS):
        for name, (width, depth) in _SHAPES.items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(rank, depth, dtype=torch.bfloat16)
            tensors[f"{module}.lora_B.weight"] = torch.randn(width, rank, dtype=torch.bfloat16)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 0.01}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    typer.run(main)
