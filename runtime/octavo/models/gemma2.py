"""Gemma 2 (Gemma Team, 2024): norms around each block, capped scores, a window in every second layer."""

from __future__ import annotations

from octavo.errors import ModelUnsupportedError
from octavo.models.config import ConfigReader, DecoderConfig
from octavo.models.sliding_window import window_by_kind

ARCHITECTURE = "Gemma2ForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    if reader.raw.get("use_bidirectional_attention"):
        raise ModelUnsupportedError(
            "config.json: use_bidirectional_attention is true; only causal attention is implemented."
        )
    layers = reader.integer("num_hidden_layers")
    alternating = ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)]
    has_attention_bias = reader.flag("attention_bias")
    return reader.decoder(
        ARCHITECTURE,
        ties_by_default=True,
        activation=str(reader.raw.get("hidden_activation") or "gelu_pytorch_tanh"),
        qkv_bias=has_attention_bias,
        output_bias=has_attention_bias,
        has_output_norms=True,
        has_offset_norms=True,
        attention_scale=reader.number("query_pre_attn_scalar", 256.0) ** -0.5,
        attention_softcap=reader.softcap("attn_logit_softcapping", 50.0),
        logits_softcap=reader.softcap("final_logit_softcapping", 30.0),
        embedding_scale=reader.integer("hidden_size") ** 0.5,
        sliding_windows=window_by_kind(reader, alternating),
    )
