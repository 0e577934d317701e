"""BLOOM (BigScience, 2022): no positions but ALiBi's falling scores, and a norm behind the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from octavo.layers.mlp import PlainActivation
from octavo.layers.norm import Norm
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.alibi import NO_ROTATION, alibi_slopes
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, plain_projections
from octavo.models.read_spec import read_spec
from octavo.models.spec import ModelSpec

STEM = "Bloom"

# How it was trained; the first means something beside pretraining_tp alone.
_UNREAD = (
    "slow_but_exact",
    "offset_alibi",
    "masked_softmax_fusion",
    "bias_dropout_fusion",
    "skip_bias_add",
    "skip_bias_add_qkv",
    "attention_softmax_in_fp32",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BloomConfig(StackedDecoderConfig):
    prefix: ClassVar[str] = "transformer."

    @classmethod
    def read(cls, reader: ConfigReader) -> BloomConfig:
        return cls(
            spec=_read_spec(reader),
            norm_eps=reader.epsilon("layer_norm_epsilon", 1e-5),
            is_tied=reader.flag("tie_word_embeddings", True),
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec, embedding="transformer.word_embeddings", head="lm_head", is_tied=self.is_tied
        )

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(
            self.spec,
            f"transformer.h.{layer}.self_attention",
            ("query_key_value", "dense"),
            qkv_bias=True,
            output_bias=True,
            is_grouped=True,
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Up; down."""
        prefix = f"transformer.h.{layer}.mlp"
        return plain_projections(self.spec, prefix, ("dense_h_to_4h", "dense_4h_to_h"), bias=True)

    def build(self, load: ModelBuilder) -> Bloom:
        return Bloom(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            self._norm("ln_f", load),
            embedding_norm=self._norm("word_embeddings_layernorm", load),
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        slopes = alibi_slopes(self.spec.num_heads)
        return load.pre_norm_block(
            self._norm(f"h.{layer}.input_layernorm", load),
            load.attention(self.spec, layer, *self.attention(layer), slopes=slopes),
            self._norm(f"h.{layer}.post_attention_layernorm", load),
            load.plain_mlp(*self.mlp(layer), PlainActivation.GELU_TANH),
        )

    def _norm(self, name: str, load: ModelBuilder) -> Norm:
        return load.layer_norm(f"transformer.{name}", self.spec.hidden_size, self.norm_eps)


def _read_spec(reader: ConfigReader) -> ModelSpec:
    """`seq_length` is the context that it was trained with; transformers has no limit."""
    hidden = reader.integer("n_embed", reader.integer("hidden_size", 64))
    heads = reader.integer("n_head", reader.integer("num_attention_heads", 8))
    reader.skip(*_UNREAD)
    reader.refuse_true("apply_residual_connection_post_layernorm", "sums begin behind the norms")
    if reader.integer("pretraining_tp", 1) > 1:
        reader.refuse_true(
            "slow_but_exact", "with pretraining_tp above 1 products are summed in so many slices"
        )
    named = reader.with_values(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=max(hidden // heads, 1),
        num_hidden_layers=reader.integer("n_layer", reader.integer("num_hidden_layers", 2)),
        intermediate_size=4 * hidden,
        max_position_embeddings=reader.integer("seq_length", 2048),
    )
    return read_spec(named, rotary=NO_ROTATION)


class Bloom(DecoderStack):
    """Pre-norm blocks over normalised embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.normalise_embedding(self.embed(token_ids))
        return self.run_blocks(residual, caches, step)
