"""Falcon (Almazrouei et al., 2023): one key head, a few, or as many as query heads; Falcon RW has ALiBi in
place of rotary positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from octavo.errors import ModelUnsupportedError
from octavo.layers.mlp import PlainActivation
from octavo.layers.norm import Norm
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.alibi import NO_ROTATION, alibi_slopes, rounded_to_bfloat16
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, plain_projections
from octavo.models.read_spec import read_spec

STEM = "Falcon"


@dataclass(frozen=True, slots=True, kw_only=True)
class FalconConfig(StackedDecoderConfig):
    prefix: ClassVar[str] = "transformer."

    activation: PlainActivation
    has_biases: bool
    is_parallel: bool
    has_two_norms: bool
    has_alibi: bool

    @classmethod
    def read(cls, reader: ConfigReader) -> FalconConfig:
        is_new = reader.flag("new_decoder_architecture")
        is_parallel = reader.flag("parallel_attn", True)
        num_norms = reader.integer("num_ln_in_parallel_attn", 2 if is_new else 1)
        is_known = num_norms <= 2 and is_parallel if is_new else num_norms == 1 or not is_parallel
        if not is_known:
            raise ModelUnsupportedError(
                f"config.json: num_ln_in_parallel_attn is {num_norms}, parallel_attn is {is_parallel} and "
                f"new_decoder_architecture is {is_new}; transformers runs no such model."
            )
        reader.refuse_true(
            "apply_residual_connection_post_layernorm", "sums begin behind the norms"
        )
        has_alibi = reader.flag("alibi")
        if has_alibi:
            reader.skip("rope_theta", "rope_scaling", "rope_parameters")  # nothing turns
        return cls(
            spec=read_spec(
                _with_common_names(reader, is_new=is_new),
                rotary=NO_ROTATION if has_alibi else None,
            ),
            norm_eps=reader.epsilon("layer_norm_epsilon", 1e-5),
            activation=reader.plain_activation("activation", "gelu"),
            is_tied=reader.flag("tie_word_embeddings", True),
            has_biases=reader.flag("bias"),
            is_parallel=is_parallel,
            has_two_norms=is_new and num_norms == 2,
            has_alibi=has_alibi,
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
            qkv_bias=self.has_biases,
            output_bias=self.has_biases,
            is_grouped=True,
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Up; down."""
        names = ("dense_h_to_4h", "dense_4h_to_h")
        prefix = f"transformer.h.{layer}.mlp"
        return plain_projections(self.spec, prefix, names, bias=self.has_biases)

    @property
    def slopes(self) -> list[float] | None:
        """They are scaled with the scores here, and transformers rounds them."""
        if not self.has_alibi:
            return None
        scale = self.spec.head_dim**-0.5
        return [scale * slope for slope in rounded_to_bfloat16(alibi_slopes(self.spec.num_heads))]

    def build(self, load: ModelBuilder) -> Falcon:
        return Falcon(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            load.layer_norm("transformer.ln_f", self.spec.hidden_size, self.norm_eps),
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        def norm(which: str) -> Norm:
            name = f"transformer.h.{layer}.{which}"
            return load.layer_norm(name, self.spec.hidden_size, self.norm_eps)

        attention = load.attention(self.spec, layer, *self.attention(layer), slopes=self.slopes)
        mlp = load.plain_mlp(*self.mlp(layer), self.activation)
        if not self.is_parallel:
            return load.pre_norm_block(
                norm("input_layernorm"), attention, norm("post_attention_layernorm"), mlp
            )
        if self.has_two_norms:
            return load.parallel_block(norm("ln_attn"), attention, norm("ln_mlp"), mlp)
        return load.parallel_block(norm("input_layernorm"), attention, None, mlp)


def _with_common_names(reader: ConfigReader, *, is_new: bool) -> ConfigReader:
    reader = reader.renamed({"hidden_size": "n_embed"})
    heads = reader.integer("num_attention_heads")
    kv_heads = reader.integer("num_kv_heads", heads)
    is_shared = reader.flag("multi_query", True) and not is_new
    if not (is_new or is_shared) and kv_heads != heads:
        raise ModelUnsupportedError(
            f"config.json: num_kv_heads is {kv_heads} and multi_query is false; without "
            f"new_decoder_architecture each of the {heads} heads has its own key."
        )
    return reader.with_values(
        num_key_value_heads=1 if is_shared else kv_heads,
        intermediate_size=reader.integer("ffn_hidden_size", 4 * reader.integer("hidden_size")),
    )


class Falcon(DecoderStack):
    """Parallel or pre-norm blocks over the token embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
