"""Qwen2 and Qwen2.5, dense: Llama with biases on queries, keys and values."""

from __future__ import annotations

from octavo.models.config import ConfigReader, DecoderConfig
from octavo.models.sliding_window import refuse_sliding_window

ARCHITECTURE = "Qwen2ForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    if reader.flag("use_sliding_window"):
        refuse_sliding_window(ARCHITECTURE)
    return reader.decoder(ARCHITECTURE, qkv_bias=True)
