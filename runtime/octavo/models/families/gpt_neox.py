"""GPT-NeoX (Black et al., 2022) and Pythia: parallel residual, layer norms, a part of each head turned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import torch

from octavo.errors import ModelInvalidError
from octavo.layers.mlp import PlainActivation
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, plain_projections
from octavo.models.read_spec import read_spec
from octavo.models.rope import RopeDefaults
from octavo.models.spec import ModelSpec

STEM = "GPTNeoX"

# First releases carry causal masks as tensors.
_MASKS = re.compile(r".*\.attention\.(masked_)?bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTNeoXConfig(StackedDecoderConfig):
    prefix: ClassVar[str] = "gpt_neox."

    activation: PlainActivation
    is_parallel: bool
    has_attention_biases: bool

    @classmethod
    def read(cls, reader: ConfigReader) -> GPTNeoXConfig:
        return cls(
            spec=_read_spec(reader),
            norm_eps=reader.epsilon("layer_norm_eps", 1e-5),
            activation=reader.plain_activation("hidden_act", "gelu"),
            is_tied=reader.flag("tie_word_embeddings"),
            is_parallel=reader.flag("use_parallel_residual", True),
            has_attention_biases=reader.flag("attention_bias", True),
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec, embedding="gpt_neox.embed_in", head="embed_out", is_tied=self.is_tied
        )

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(
            self.spec,
            f"gpt_neox.layers.{layer}.attention",
            ("query_key_value", "dense"),
            qkv_bias=self.has_attention_biases,
            output_bias=self.has_attention_biases,
            is_grouped=True,
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Up; down."""
        prefix = f"gpt_neox.layers.{layer}.mlp"
        return plain_projections(self.spec, prefix, ("dense_h_to_4h", "dense_4h_to_h"), bias=True)

    def build(self, load: ModelBuilder) -> GPTNeoX:
        return GPTNeoX(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            load.layer_norm("gpt_neox.final_layer_norm", self.spec.hidden_size, self.norm_eps),
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        name, width = f"gpt_neox.layers.{layer}", self.spec.hidden_size
        block = load.parallel_block if self.is_parallel else load.pre_norm_block
        return block(
            load.layer_norm(f"{name}.input_layernorm", width, self.norm_eps),
            load.attention(self.spec, layer, *self.attention(layer)),
            load.layer_norm(f"{name}.post_attention_layernorm", width, self.norm_eps),
            load.plain_mlp(*self.mlp(layer), self.activation),
        )

    def ignores(self, name: str) -> bool:
        return StackedDecoderConfig.ignores(self, name) or _MASKS.fullmatch(name) is not None


def _read_spec(reader: ConfigReader) -> ModelSpec:
    """Rotary fields have names of their own here, and transformers looks at no others."""
    theta = reader.factor("rotary_emb_base", 10_000.0)
    share = reader.number("rotary_pct", 0.25)
    for name, value in (("rope_theta", theta), ("partial_rotary_factor", share)):
        if reader.number(name, value) != value:
            raise ModelInvalidError(
                f"config.json: {name} is {reader.get(name)!r}; this architecture reads rotary_emb_base and "
                f"rotary_pct, which make it {value:g}. Leave {name} out, or say the same with both."
            )
    return read_spec(reader, rope_defaults=RopeDefaults(theta=theta, partial=share))


class GPTNeoX(DecoderStack):
    """Parallel or pre-norm blocks over the token embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
