"""`python -m benchmarks.generic_path`: what transformers' own modules cost beside Octavo's own families.

One model with random weights by both (`--model-impl octavo` and `transformers`), in one process and in turn:
the first token of a prompt of 1,024, and a token at 1 and at 8 requests. Shapes and number of layers are the
real ones, but where memory is short: the native path's last layer finishes only the rows that are read, which
is a part of a prompt that depends on how many layers there are.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.cpu.hardware import describe_hardware
from octavo import LLM, SamplingParams

_VOCAB, _PROMPT, _TOKENS = 8192, 1024, 24
_COMMON = {
    "vocab_size": _VOCAB,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SHAPES = {
    "Llama-3.2-1B": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
    },
    "Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": 28,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    # A quarter of its experts, and 2 of its 48 layers: memory is short.
    "Qwen3-30B-A3B": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_hidden_layers": 2,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 32,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
    },
}
_KINDS = ("octavo", "transformers")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", action="append", help="default: bfloat16 and float32")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="default: all")
    arguments = parser.parse_args()
    print(json.dumps(describe_hardware()))
    print("| shape | dtype | what | octavo, ms | transformers' modules, ms | ratio (min-max) |")
    print("|---|---|---|---:|---:|---:|")
    for name in arguments.shape or SHAPES:
        fields = SHAPES[name]
        for dtype in arguments.dtype or ("bfloat16", "float32"):
            for line in compare(name, dtype, fields, arguments.rounds):
                print(line, flush=True)


def compare(name: str, dtype: str, fields: dict[str, object], rounds: int) -> list[str]:
    """A row for each load, of the median ratio of rounds in pairs."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), fields)
        models = [
            LLM(
                folder,
                dtype=dtype,
                device="cpu",
                load_format="dummy",
                model_impl=kind,
                kv_cache_memory="512Mi",
                max_model_len=2048,
                enable_prefix_caching=False,
            )
            for kind in _KINDS
        ]
    times: dict[str, list[tuple[float, float]]] = {}
    for turn in range(rounds + 1):
        ordered = models if turn % 2 else models[::-1]
        found = {id(one): measure(one) for one in ordered}
        if turn:  # the first warms up
            for load, own in found[id(models[0])].items():
                times.setdefault(load, []).append((own, found[id(models[1])][load]))
    del models, ordered
    gc.collect()
    rows = []
    for load, pairs in times.items():
        ratios = [theirs / own for own, theirs in pairs]
        own, theirs = (statistics.median(side) * 1e3 for side in zip(*pairs, strict=True))
        rows.append(
            f"| {name} | {dtype} | {load} | {own:.1f} | {theirs:.1f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) |"
        )
    return rows


def measure(model: LLM) -> dict[str, float]:
    """Seconds: to the first token of a long prompt, and for a token of each of so many short ones."""
    loads = {"first token of 1,024": _timed(model, 1, _PROMPT, 1)}
    for requests in (1, 8):
        whole = _timed(model, requests, 8, _TOKENS + 1)
        first = _timed(model, requests, 8, 1)
        loads[f"token at {requests}"] = (whole - first) / _TOKENS
    return loads


def _timed(model: LLM, requests: int, prompt: int, tokens: int) -> float:
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    prompts = [[(7 * i + 13 * r) % _VOCAB for i in range(prompt)] for r in range(requests)]
    start = time.perf_counter()
    model.generate(prompts, params)
    return time.perf_counter() - start


def write_model(folder: Path, fields: dict[str, object]) -> None:
    """A folder of a model without weights, with a tokenizer that has a word for each token."""
    (folder / "config.json").write_text(json.dumps({**_COMMON, **fields, "dtype": "bfloat16"}))
    words = {f"t{i}": i for i in range(_VOCAB)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "t0"}
    text = {"version": "1.0", "added_tokens": [], "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(text))


if __name__ == "__main__":
    main()
