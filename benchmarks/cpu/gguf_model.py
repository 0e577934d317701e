"""GGUF file with random weights, shaped as a Qwen3: what llama.cpp runs in this benchmark.

Runs in the interpreter that has `gguf` (and numpy), which need not be Octavo's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

GGUF_TYPES = {
    "bf16": GGMLQuantizationType.BF16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q4_0": GGMLQuantizationType.Q4_0,
    "q6_k": GGMLQuantizationType.Q6_K,
}
# Drawing and quantising 600 M numbers takes a minute; one block of rows is drawn and repeated. Odd, so
# that neighbouring tensors do not start alike.
_BLOCK_ROWS = 509


def write_qwen3(config: dict[str, Any], matrices: str, head: str, path: Path) -> None:
    """Writes `path` for Qwen3's `config` (its config.json) with matrices and head of these types.

    A tied table has the head's, one that is only looked up the matrices'.
    """
    writer = GGUFWriter(path, "qwen3")
    _add_metadata(writer, config)
    weights = _RandomWeights(GGUF_TYPES[matrices])
    hidden, width = config["hidden_size"], config["intermediate_size"]
    query_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    shapes = {
        "attn_q": (query_width, hidden),
        "attn_k": (kv_width, hidden),
        "attn_v": (kv_width, hidden),
        "attn_output": (hidden, query_width),
        "ffn_gate": (width, hidden),
        "ffn_up": (width, hidden),
        "ffn_down": (hidden, width),
    }
    norms = {
        "attn_norm": hidden,
        "ffn_norm": hidden,
        "attn_q_norm": config["head_dim"],
        "attn_k_norm": config["head_dim"],
    }
    scores, table_shape = _RandomWeights(GGUF_TYPES[head]), (config["vocab_size"], hidden)
    if config["tie_word_embeddings"]:
        scores.add(writer, "token_embd", table_shape)
    else:
        weights.add(writer, "token_embd", table_shape)
        scores.add(writer, "output", table_shape)
    writer.add_tensor("output_norm.weight", np.ones(hidden, dtype=np.float32))
    for layer in range(config["num_hidden_layers"]):
        for name, shape in shapes.items():
            weights.add(writer, f"blk.{layer}.{name}", shape)
        for name, size in norms.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(size, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_metadata(writer: GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(config["rope_theta"]))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")  # only ids are sent


class _RandomWeights:
    """Normal weights of standard deviation 0.02, as the benchmark's other sides have them."""

    def __init__(self, kind: GGMLQuantizationType) -> None:
        self._kind = kind
        self._numbers = np.random.default_rng(0)
        self._blocks: dict[int, np.ndarray[Any, Any]] = {}  # columns → quantised rows

    def add(self, writer: GGUFWriter, name: str, shape: tuple[int, int]) -> None:
        rows, columns = shape
        if columns not in self._blocks:
            self._blocks[columns] = self._draw(columns)
        block = self._blocks[columns]
        tensor = np.tile(block, (math.ceil(rows / _BLOCK_ROWS), 1))[:rows]
        writer.add_tensor(f"{name}.weight", tensor, raw_dtype=self._kind)

    def _draw(self, columns: int) -> np.ndarray[Any, Any]:
        if self._kind is GGMLQuantizationType.Q6_K:
            return self._draw_q6_k(columns)
        block = self._numbers.standard_normal((_BLOCK_ROWS, columns), dtype=np.float32)
        packed: np.ndarray[Any, Any] = quantize(block * np.float32(0.02), self._kind)
        return packed

    def _draw_q6_k(self, columns: int) -> np.ndarray[Any, Any]:
        """`gguf` packs no K-quants. 256 weights are 192 bytes of bits, 16 scales of 8 bits and one of 16:
        with scales of 64 and the step here weights are within 0.05."""
        count = _BLOCK_ROWS * columns // 256
        bits = self._numbers.integers(0, 256, (count, 192), dtype=np.uint8)
        scales = np.full((count, 16), 64, dtype=np.uint8)
        step = np.full((count, 1), 0.05 / 64 / 32, dtype=np.float16).view(np.uint8)
        return np.concatenate([bits, scales, step], axis=1).reshape(_BLOCK_ROWS, -1)
