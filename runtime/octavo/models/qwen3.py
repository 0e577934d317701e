"""Qwen3, dense: Llama with queries and keys normalised per head."""

from __future__ import annotations

from octavo.models.config import ConfigReader, DecoderConfig
from octavo.models.sliding_window import window_from_layer

ARCHITECTURE = "Qwen3ForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    has_attention_bias = reader.flag("attention_bias")
    return reader.decoder(
        ARCHITECTURE,
        qkv_bias=has_attention_bias,
        output_bias=has_attention_bias,
        has_head_norm=True,
        sliding_windows=window_from_layer(reader),
    )
