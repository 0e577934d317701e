"""Peak memory of loading, and its speed: how much more than the loaded weights a process holds while it reads
a checkpoint, whose pages the kernel has in memory, and how long that takes.

    python -m benchmarks.loading_memory [--gib 1] [--dtype bfloat16] [--quantization int8]
    python -m benchmarks.loading_memory [--gib 1] --stored awq

A Llama-shaped checkpoint of random numbers, in shards, is written to a temporary folder and loaded in a
process of its own, behind a small one, so that what imports and kernels take is there before. Anonymous
memory is what the process allocates; pages of the mapped files count to its resident memory too, but the
kernel drops them when it needs to.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.cpu.models import DEMO
from benchmarks.cpu.stored_checkpoints import Checkpoint
from benchmarks.cpu.stored_checkpoints import write_checkpoint as write_stored

_MIB = 2**20


@dataclass(frozen=True)
class Sizes:
    """Of the model, and of a file. An inner width and a head are multiples of 128."""

    hidden: int = 2048
    inner: int = 5632
    vocab: int = 32000
    shard_bytes: int = 256 * _MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", type=float, default=1.0, help="size of the checkpoint")
    parser.add_argument("--dtype", default="bfloat16", help="of the loaded model")
    parser.add_argument("--quantization", default="none", help="int8, int4 or none")
    parser.add_argument(
        "--stored",
        type=Checkpoint,
        choices=list(Checkpoint),
        help="of 4 bits, in place of bfloat16",
    )
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(measure(Path(arguments.load), arguments.dtype, arguments.quantization)))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write_checkpoint(Path(folder), int(arguments.gib * 2**30), stored=arguments.stored)
        largest = largest_tensor(Path(folder))
        command = [sys.executable, "-m", "benchmarks.loading_memory", "--load", folder]
        command += ["--dtype", arguments.dtype, "--quantization", arguments.quantization]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(
        f"{size / _MIB:.0f} MiB stored, the largest tensor {largest / _MIB:.0f}; "
        f"{found['final'] / _MIB:.0f} MiB held when loaded; peak "
        f"{(found['peak'] - found['final']) / _MIB:.0f} MiB above it (anonymous), "
        f"{(found['peak_resident'] - found['final']) / _MIB:.0f} MiB (resident); "
        f"{found['milliseconds'] / 1e3:.1f} s, {size / 1e6 / found['milliseconds']:.2f} GB/s"
    )


def write_checkpoint(
    folder: Path, num_bytes: int, sizes: Sizes = Sizes(), *, stored: Checkpoint | None = None
) -> int:
    """Returns the bytes of all tensors.

    Args:
        stored: None: bfloat16.
    """
    hidden, inner = sizes.hidden, sizes.inner
    layer = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden // 4, hidden),
        "self_attn.v_proj": (hidden // 4, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    tables = 2 * 2 * sizes.vocab * hidden
    each = 2 * sum(torch.Size(shape).numel() for shape in layer.values())
    each //= 1 if stored is None else 4
    num_layers = max((num_bytes - tables) // each, 2)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": sizes.vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": num_layers,
        "num_attention_heads": hidden // 128,
        "num_key_value_heads": hidden // 512,
        "head_dim": 128,
        "max_position_embeddings": 2048,
        "dtype": "bfloat16",
    }
    if stored is not None:
        write_stored(config | {"architectures": ["Qwen3ForCausalLM"]}, stored, folder)
        return (folder / "model.safetensors").stat().st_size
    (folder / "config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (sizes.vocab, hidden),
        "lm_head": (sizes.vocab, hidden),
        "model.norm": (hidden,),
    }
    for index in range(num_layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    _write_shards(folder, shapes, sizes.shard_bytes)
    return sum(2 * torch.Size(shape).numel() for shape in shapes.values())


def _write_shards(folder: Path, shapes: dict[str, tuple[int, ...]], shard_bytes: int) -> None:
    weight_map: dict[str, str] = {}
    drawn = torch.randn(2**20) * 0.02
    shard: dict[str, torch.Tensor] = {}
    shards = 0
    for place, (name, shape) in enumerate(shapes.items()):
        count = torch.Size(shape).numel()
        numbers = torch.ones(count) if len(shape) == 1 else drawn.repeat(-(-count // len(drawn)))
        shard[f"{name}.weight"] = numbers[:count].view(shape).bfloat16()
        is_last = place == len(shapes) - 1
        if is_last or sum(one.nbytes for one in shard.values()) > shard_bytes:
            file = f"model-{shards}.safetensors"
            save_file(shard, folder / file)
            weight_map |= dict.fromkeys(shard, file)
            shard, shards = {}, shards + 1
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def largest_tensor(folder: Path) -> int:
    """Bytes of it as it is stored."""
    return max(size for file in folder.glob("*.safetensors") for size in _tensor_bytes(file))


def _tensor_bytes(file: Path) -> Iterable[int]:
    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118 (a file handle, no dict)
            yield opened.get_tensor(name).nbytes


def measure(folder: Path, dtype: str, quantization: str) -> dict[str, int]:
    """Bytes above what the process held before: at the end and at the peak."""
    from octavo.worker.machine import return_freed_memory

    _executor(str(DEMO), dtype, quantization)
    gc.collect()
    return_freed_memory()
    before, peaks = _memory(), [0, 0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            for place, now in enumerate(_memory()):
                peaks[place] = max(peaks[place], now)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        executor = _executor(str(folder), dtype, quantization)
    finally:
        is_over.set()
        watcher.join()
    load = executor.info.phases["load"]  # without imports and warm-up
    final = _memory()[0] - before[0]
    del executor
    return {
        "final": final,
        "milliseconds": int(load * 1e3),
        "peak": peaks[0] - before[0],
        "peak_resident": peaks[1] - before[1],
    }


def _executor(model: str, dtype: str, quantization: str) -> Any:
    from octavo.config import Device, EngineConfig, Quantization
    from octavo.worker.start.create import create_executor

    return create_executor(
        EngineConfig(
            model=model,
            dtype=dtype,
            device=Device.CPU,
            quantization=None if quantization == "none" else Quantization(quantization),
            kv_cache_memory_bytes=2**22,
            max_model_len=16,
        )
    )


def _memory() -> tuple[int, int]:
    """Anonymous and all resident bytes."""
    fields = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":" in line
    )
    return tuple(1024 * int(fields[name].split()[0]) for name in ("RssAnon", "VmRSS"))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
