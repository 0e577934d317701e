"""Llama 1 to 3.x, and the many checkpoints that share its architecture."""

from __future__ import annotations

from octavo.models.config import ConfigReader, DecoderConfig

ARCHITECTURE = "LlamaForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    has_attention_bias = reader.flag("attention_bias")
    return reader.decoder(
        ARCHITECTURE,
        qkv_bias=has_attention_bias,
        output_bias=has_attention_bias,
        mlp_bias=reader.flag("mlp_bias"),
    )
