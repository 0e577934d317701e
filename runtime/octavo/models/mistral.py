"""Mistral: Llama under another name, v0.1 with a sliding window in every layer."""

from __future__ import annotations

from octavo.models.config import ConfigReader, DecoderConfig
from octavo.models.sliding_window import window_everywhere

ARCHITECTURE = "MistralForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    # A file without the field is of v0.1's time, whose class had this window by default.
    windows = window_everywhere(reader, default=4096)
    return reader.decoder(ARCHITECTURE, sliding_windows=windows)
