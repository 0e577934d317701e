"""BERT (Devlin et al., 2019), MiniLM and what shares their layers: post-norm blocks, learnt positions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from octavo.layers.encoder_attention import EncoderStep
from octavo.layers.projection import Projection
from octavo.models.base import Tables
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.encoder_blocks import EncoderStack, PostNormBlock
from octavo.models.encoder_config import StackedEncoderConfig
from octavo.models.encoder_embeddings import SummedEmbeddings
from octavo.models.projections import attention_projections, plain_projections
from octavo.models.read_encoder_spec import read_encoder_spec
from octavo.models.score_head import read_score_activation, score_projections
from octavo.models.spec import Task

STEM = "Bert"

# A buffer of old checkpoints, the heads of pre-training, and the pooler, which embeddings do without.
_UNUSED = re.compile(r"bert\.embeddings\.position_ids|cls\..*|bert\.pooler\.dense\.(weight|bias)")

# Of the multilingual releases; nothing reads them.
_OF_POOLER = (
    "directionality",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig(StackedEncoderConfig):
    """
    Args:
        padding_id: See `SummedEmbeddings`.
    """

    prefix: ClassVar[str] = "bert."
    unused: ClassVar[re.Pattern[str]] = _UNUSED

    num_segments: int
    padding_id: int | None

    @classmethod
    def read(cls, reader: ConfigReader) -> Self:
        reader.skip(*_OF_POOLER)
        return cls.of(reader, padding_id=None)

    @classmethod
    def of(cls, reader: ConfigReader, *, padding_id: int | None) -> Self:
        spec = read_encoder_spec(reader, first_position=_first_position(padding_id))
        return cls(
            spec=spec,
            norm_eps=reader.epsilon("layer_norm_eps", 1e-12),
            activation=reader.plain_activation("hidden_act", "gelu"),
            num_segments=reader.integer("type_vocab_size", 2),
            padding_id=padding_id,
            score=read_score_activation(reader) if spec.task is Task.SCORE else None,
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(self.spec, embedding=f"{self.prefix}embeddings.word_embeddings", head=None)

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(
            self.spec,
            f"{self.prefix}encoder.layer.{layer}.attention",
            ("self.query", "self.key", "self.value", "output.dense"),
            qkv_bias=True,
            output_bias=True,
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Up; down."""
        prefix = f"{self.prefix}encoder.layer.{layer}"
        return plain_projections(
            self.spec, prefix, ("intermediate.dense", "output.dense"), bias=True
        )

    def head(self) -> tuple[Projection, Projection]:
        """The pooler; the classifier."""
        return score_projections(self.spec, f"{self.prefix}pooler.dense", "classifier")

    def build(self, load: ModelBuilder) -> Bert:
        name, width = f"{self.prefix}embeddings", self.spec.hidden_size
        tokens, _ = load.tables(self.tables)
        num_positions = _first_position(self.padding_id) + self.spec.context
        embeddings = SummedEmbeddings(
            tokens,
            load.tensor(f"{name}.position_embeddings.weight", num_positions, width),
            load.tensor(f"{name}.token_type_embeddings.weight", self.num_segments, width),
            load.layer_norm(f"{name}.LayerNorm", width, self.norm_eps),
            self.padding_id,
        )
        blocks = [self._block(layer, load) for layer in range(self.spec.num_layers)]
        return Bert(self.spec, embeddings, blocks, self.score_head(load))

    def _block(self, layer: int, load: ModelBuilder) -> PostNormBlock:
        name, width = f"{self.prefix}encoder.layer.{layer}", self.spec.hidden_size
        return PostNormBlock(
            load.encoder_attention(self.spec, layer, *self.attention(layer)),
            load.layer_norm(f"{name}.attention.output.LayerNorm", width, self.norm_eps),
            load.plain_mlp(*self.mlp(layer), self.activation),
            load.layer_norm(f"{name}.output.LayerNorm", width, self.norm_eps),
            load.reduce,
        )


def _first_position(padding_id: int | None) -> int:
    return 0 if padding_id is None else padding_id + 1


class Bert(EncoderStack):
    """Post-norm blocks over the embeddings."""

    __slots__ = ()

    def forward(self, token_ids: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        return self.run_blocks(self.embed(token_ids, step), step)
