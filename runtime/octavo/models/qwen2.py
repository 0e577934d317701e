"""Qwen2 and Qwen2.5, dense: Llama with biases on queries, keys and values."""

from __future__ import annotations

from octavo.models.config import ConfigReader, DecoderConfig
from octavo.models.sliding_window import window_from_layer

ARCHITECTURE = "Qwen2ForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    return reader.decoder(ARCHITECTURE, qkv_bias=True, sliding_windows=window_from_layer(reader))
