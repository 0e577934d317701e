"""Peak memory of loading, and its speed: how much more than the loaded weights a process holds while it reads
a checkpoint, whose pages the kernel has in memory, and how long that takes.

    python -m benchmarks.loading_memory [--gib 1] [--dtype bfloat16] [--quantization int8]

A Llama-shaped checkpoint of random bfloat16 numbers, in shards, is written to a temporary folder and loaded
in a process of its own. Anonymous memory is what the process allocates; pages of the mapped files count to
its resident memory too, but the kernel drops them when it needs to.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

_HIDDEN, _INNER, _VOCAB = 2048, 5632, 32000
_SHARD_BYTES = 256 * 2**20
_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", type=float, default=1.0, help="size of the checkpoint")
    parser.add_argument("--dtype", default="bfloat16", help="of the loaded model")
    parser.add_argument("--quantization", default="none", help="int8, int4 or none")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(measure(Path(arguments.load), arguments.dtype, arguments.quantization)))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write_checkpoint(Path(folder), int(arguments.gib * 2**30))
        command = [sys.executable, "-m", "benchmarks.loading_memory", "--load", folder]
        command += ["--dtype", arguments.dtype, "--quantization", arguments.quantization]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(
        f"{size / _MIB:.0f} MiB stored; {found['final'] / _MIB:.0f} MiB held when loaded; peak "
        f"{(found['peak'] - found['final']) / _MIB:.0f} MiB above it (anonymous), "
        f"{(found['peak_resident'] - found['final']) / _MIB:.0f} MiB (resident); "
        f"{found['milliseconds'] / 1e3:.1f} s, {size / 1e6 / found['milliseconds']:.2f} GB/s"
    )


def write_checkpoint(folder: Path, num_bytes: int) -> int:
    """Returns the bytes of all tensors."""
    layer = {
        "self_attn.q_proj": (_HIDDEN, _HIDDEN),
        "self_attn.k_proj": (_HIDDEN // 4, _HIDDEN),
        "self_attn.v_proj": (_HIDDEN // 4, _HIDDEN),
        "self_attn.o_proj": (_HIDDEN, _HIDDEN),
        "mlp.gate_proj": (_INNER, _HIDDEN),
        "mlp.up_proj": (_INNER, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _INNER),
        "input_layernorm": (_HIDDEN,),
        "post_attention_layernorm": (_HIDDEN,),
    }
    tables = 2 * 2 * _VOCAB * _HIDDEN
    each = 2 * sum(torch.Size(shape).numel() for shape in layer.values())
    num_layers = max((num_bytes - tables) // each, 2)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (_VOCAB, _HIDDEN),
        "lm_head": (_VOCAB, _HIDDEN),
        "model.norm": (_HIDDEN,),
    }
    for index in range(num_layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": _VOCAB,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    shards = 0
    for place, (name, shape) in enumerate(shapes.items()):
        tensor = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02
        shard[f"{name}.weight"] = tensor.bfloat16()
        is_last = place == len(shapes) - 1
        if is_last or sum(one.nbytes for one in shard.values()) > _SHARD_BYTES:
            file = f"model-{shards}.safetensors"
            save_file(shard, folder / file)
            weight_map |= dict.fromkeys(shard, file)
            shard, shards = {}, shards + 1
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return sum(2 * torch.Size(shape).numel() for shape in shapes.values())


def measure(folder: Path, dtype: str, quantization: str) -> dict[str, int]:
    """Bytes above what the process held before: at the end and at the peak."""
    from octavo.config import Device, EngineConfig, Quantization
    from octavo.worker.start.create import create_executor

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
        executor = create_executor(
            EngineConfig(
                model=str(folder),
                dtype=dtype,
                device=Device.CPU,
                quantization=None if quantization == "none" else Quantization(quantization),
                kv_cache_memory_bytes=2**22,
                max_model_len=16,
            )
        )
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
