"""ModernBERT (Warner et al., 2024): pre-norm blocks, rotary positions, a window in two layers of three."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from octavo.layers.encoder_attention import EncoderStep
from octavo.layers.mlp import PlainActivation
from octavo.layers.norm import Norm
from octavo.layers.projection import Projection
from octavo.loading.pooling import PoolingMode
from octavo.models.base import Tables
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.encoder_blocks import EncoderStack, PreNormEncoderBlock
from octavo.models.encoder_config import StackedEncoderConfig
from octavo.models.encoder_embeddings import NormalisedEmbeddings
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_encoder_spec import read_encoder_spec
from octavo.models.rope import read_rope_of_kinds
from octavo.models.score_head import (
    ScoreHead,
    read_score_activation,
    read_score_pooling,
    score_projections,
)
from octavo.models.sliding_window import full_attention_every, window_by_kind
from octavo.models.spec import ModelSpec, Task

STEM = "ModernBert"

_CONTEXT = 8192
_GLOBAL, _LOCAL = 0, 1  # rotary tables
_THETAS = {
    "full_attention": ("global_rope_theta", 160_000.0),
    "sliding_attention": ("local_rope_theta", 10_000.0),
}

_UNUSED = re.compile(r"(head|decoder)\..*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModernBertConfig(StackedEncoderConfig):
    unused: ClassVar[re.Pattern[str]] = _UNUSED

    has_norm_biases: bool
    has_attention_biases: bool
    has_mlp_biases: bool
    score_pooling: PoolingMode
    score_between: PlainActivation
    has_score_bias: bool

    @classmethod
    def read(cls, reader: ConfigReader) -> ModernBertConfig:
        reader.skip("decoder_bias", "layer_norm_eps")  # of the head that is not read; of no norm
        spec = _read_spec(reader)
        return cls(
            spec=spec,
            norm_eps=reader.epsilon("norm_eps", 1e-5),
            has_norm_biases=reader.flag("norm_bias"),
            has_attention_biases=reader.flag("attention_bias"),
            has_mlp_biases=reader.flag("mlp_bias"),
            activation=reader.plain_activation("hidden_activation", "gelu"),
            score=read_score_activation(reader) if spec.task is Task.SCORE else None,
            score_pooling=read_score_pooling(reader),
            score_between=reader.plain_activation("classifier_activation", "gelu"),
            has_score_bias=reader.flag("classifier_bias"),
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(self.spec, embedding="model.embeddings.tok_embeddings", head=None)

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        bias = self.has_attention_biases
        name = f"model.layers.{layer}.attn"
        return attention_projections(
            self.spec, name, ("Wqkv", "Wo"), qkv_bias=bias, output_bias=bias
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Gate and up; down."""
        name = f"model.layers.{layer}.mlp"
        return gated_projections(self.spec, name, ("Wi", "Wo"), bias=self.has_mlp_biases)

    def head(self) -> tuple[Projection, Projection]:
        """The first product; the classifier."""
        return score_projections(
            self.spec, "head.dense", "classifier", dense_bias=self.has_score_bias
        )

    def build(self, load: ModelBuilder) -> ModernBert:
        tokens, _ = load.tables(self.tables)
        return ModernBert(
            self.spec,
            NormalisedEmbeddings(tokens, self._norm("model.embeddings.norm", load)),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            self.score_head(load),
            norm=self._norm("model.final_norm", load),
        )

    def _block(self, layer: int, load: ModelBuilder) -> PreNormEncoderBlock:
        name = f"model.layers.{layer}"
        rotary = _GLOBAL if self.spec.windows[layer] is None else _LOCAL
        return PreNormEncoderBlock(
            self._norm(f"{name}.attn_norm", load) if layer else None,
            load.encoder_attention(self.spec, layer, *self.attention(layer), rotary=rotary),
            self._norm(f"{name}.mlp_norm", load),
            load.encoder_gated_mlp(*self.mlp(layer), self.activation),
            load.reduce,
        )

    def score_head(self, load: ModelBuilder) -> ScoreHead | None:
        head = super(ModernBertConfig, self).score_head(load)
        if head is None:
            return None
        norm, function = self._norm("head.norm", load), self.score_between.function
        return replace(head, between=lambda x: norm(function(x)), pooling=self.score_pooling)

    def _norm(self, name: str, load: ModelBuilder) -> Norm:
        return load.layer_norm(
            name, self.spec.hidden_size, self.norm_eps, bias=self.has_norm_biases
        )


def _read_spec(reader: ConfigReader) -> ModelSpec:
    kinds = full_attention_every(reader, reader.integer("global_attn_every_n_layers", 3), first=0)
    # A half lies on each side, and the token itself between.
    half = reader.integer("sliding_window", reader.integer("local_attention", 128) // 2)
    return read_encoder_spec(
        reader,
        default_context=_CONTEXT,
        windows=window_by_kind(reader.with_values(sliding_window=half + 1), kinds, half + 1),
        rotary=read_rope_of_kinds(
            reader,
            head_dim=reader.integer("hidden_size") // reader.integer("num_attention_heads"),
            max_position=reader.integer("max_position_embeddings", _CONTEXT),
            thetas=_THETAS,
            is_first_scaled=False,
        ),
    )


class ModernBert(EncoderStack):
    """Pre-norm blocks between two norms."""

    __slots__ = ()

    def forward(self, token_ids: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        return self.normalise(self.run_blocks(self.embed(token_ids, step), step))
