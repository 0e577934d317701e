"""MPT (MosaicML, 2023): ALiBi in place of positions, layer norms and products without biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from octavo.layers.mlp import PlainActivation
from octavo.layers.norm import Norm
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.alibi import NO_ROTATION, mpt_slopes
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, plain_projections
from octavo.models.read_spec import read_spec
from octavo.models.spec import ModelSpec

STEMS = ("MPT", "Mpt")  # as published, and as transformers' class is called

# With other values the publisher's code computes something that transformers' class does not.
_ONLY: dict[str, tuple[Any, ...]] = {
    "attn_type": ("multihead_attention",),
    "alibi": (True,),
    "prefix_lm": (False,),
    "qk_ln": (False,),
    "attn_uses_sequence_id": (False,),
}
_ONLY_BESIDE: dict[str, tuple[Any, ...]] = {
    "no_bias": (True,),
    "norm_type": ("low_precision_layernorm", "layernorm"),
    "logit_scale": (None,),
}
# How it was trained, or chosen by the publisher's code; with ALiBi there are no learnt positions.
_UNREAD = (
    "emb_pdrop",
    "embedding_fraction",
    "init_config",
    "init_device",
    "learned_pos_emb",
    "tokenizer_name",
    "verbose",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MptConfig(StackedDecoderConfig):
    prefix: ClassVar[str] = "transformer."

    scale: float
    clip: float | None
    slopes: tuple[float, ...]

    @classmethod
    def read(cls, reader: ConfigReader) -> MptConfig:
        spec = _read_spec(reader)
        attention = reader.part("attn_config")
        for name, allowed in _ONLY.items():
            attention.refuse_others(name, *allowed)
        for name, allowed in _ONLY_BESIDE.items():
            reader.refuse_others(name, *allowed)
        attention.skip("attn_impl")  # which kernel computes it
        clip = attention.number("clip_qkv", 0.0)
        config = cls(
            spec=spec,
            norm_eps=reader.epsilon("layer_norm_epsilon", 1e-5),
            is_tied=reader.flag("tie_word_embeddings", True),
            scale=attention.factor("softmax_scale", spec.head_dim**-0.5),
            clip=clip or None,  # as transformers, which clips by no 0
            # transformers' class reads no alibi_bias_max; the publisher's code does, and so do others.
            slopes=mpt_slopes(spec.num_heads, attention.number("alibi_bias_max", 8)),
        )
        attention.refuse_unread()
        return config

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec, embedding="transformer.wte", head="lm_head", is_tied=self.is_tied
        )

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        prefix = f"transformer.blocks.{layer}.attn"
        return attention_projections(self.spec, prefix, ("Wqkv", "out_proj"))

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Up; down."""
        prefix = f"transformer.blocks.{layer}.ffn"
        return plain_projections(self.spec, prefix, ("up_proj", "down_proj"), bias=False)

    def build(self, load: ModelBuilder) -> Mpt:
        return Mpt(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            self._norm("norm_f", load),
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        attention = load.attention(
            self.spec,
            layer,
            *self.attention(layer),
            scale=self.scale,
            slopes=self.slopes,
            clip=self.clip,
        )
        return load.pre_norm_block(
            self._norm(f"blocks.{layer}.norm_1", load),
            attention,
            self._norm(f"blocks.{layer}.norm_2", load),
            load.plain_mlp(*self.mlp(layer), PlainActivation.GELU),
        )

    def _norm(self, name: str, load: ModelBuilder) -> Norm:
        width = self.spec.hidden_size
        return load.layer_norm(f"transformer.{name}", width, self.norm_eps, bias=False)


def _read_spec(reader: ConfigReader) -> ModelSpec:
    """Under transformers' own names, or those that it takes for them."""
    reader.skip(*_UNREAD)
    hidden = reader.integer("d_model", reader.integer("hidden_size", 2048))
    heads = reader.integer("n_heads", reader.integer("num_attention_heads", 16))
    named = reader.with_values(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=max(hidden // heads, 1),
        num_hidden_layers=reader.integer("n_layers", reader.integer("num_hidden_layers", 24)),
        intermediate_size=reader.integer("expansion_ratio", 4) * hidden,
        max_position_embeddings=reader.integer("max_seq_len", 2048),
    )
    return read_spec(named, rotary=NO_ROTATION)


class Mpt(DecoderStack):
    """Pre-norm blocks over the token embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
