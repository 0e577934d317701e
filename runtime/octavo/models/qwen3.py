"""Qwen3, dense: Llama with queries and keys normalised per head."""

from __future__ import annotations

from octavo.models.config import ConfigReader, DecoderConfig
from octavo.models.sliding_window import refuse_sliding_window

ARCHITECTURE = "Qwen3ForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    if reader.flag("use_sliding_window"):
        refuse_sliding_window(ARCHITECTURE)
    has_attention_bias = reader.flag("attention_bias")
    return reader.decoder(
        ARCHITECTURE,
        qkv_bias=has_attention_bias,
        output_bias=has_attention_bias,
        has_head_norm=True,
    )
