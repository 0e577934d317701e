"""Mistral without a sliding window (v0.2 and later): Llama under another name."""

from __future__ import annotations

from octavo.models.config import ConfigReader, DecoderConfig
from octavo.models.sliding_window import refuse_sliding_window

ARCHITECTURE = "MistralForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    if reader.raw.get("sliding_window") is not None:
        refuse_sliding_window(ARCHITECTURE)
    return reader.decoder(ARCHITECTURE)
