"""NomicBERT (Nussbaum et al., 2024): BERT with rotary positions and gated blocks, nearly without biases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from octavo.layers.projection import Projection
from octavo.models.base import Tables
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.encoder_blocks import PostNormBlock
from octavo.models.encoder_config import StackedEncoderConfig
from octavo.models.encoder_embeddings import SummedEmbeddings
from octavo.models.families.bert import Bert
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_encoder_spec import read_encoder_spec
from octavo.models.rope import RopeDefaults, read_rope
from octavo.models.score_head import read_score_activation, score_projections
from octavo.models.spec import ModelSpec, Task

STEM = "NomicBert"

_CONTEXT = 2048
_THETA = 1000.0

_UNUSED = re.compile(r"cls\..*|nomic_bert\.pooler\.dense\.(weight|bias)")

# Files before transformers 5 name fields as GPT-2's do, and have these, too: one with other values is
# another model.
_PUBLISHED_NAMES = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
    "rope_theta": "rotary_emb_base",
    # They were trained to `max_trained_positions`, and `n_positions` wants a scaling that is not there.
    "max_position_embeddings": "max_trained_positions",
}
_ONLY: dict[str, Any] = {
    "activation_function": "swiglu",
    "causal": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "use_rms_norm": False,
}
# Of the first implementation's kernels and its other heads.
_NOT_READ = (
    "dense_seq_output",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "last_layer_subset",
    "n_positions",
    "pad_vocab_size_multiple",
    "parallel_block_tied_norm",
    "reorder_and_upcast_attn",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "use_xentropy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NomicBertConfig(StackedEncoderConfig):
    prefix: ClassVar[str] = "nomic_bert."
    unused: ClassVar[re.Pattern[str]] = _UNUSED

    num_segments: int

    @classmethod
    def read(cls, reader: ConfigReader) -> NomicBertConfig:
        reader = _with_common_names(reader)
        spec = _read_spec(reader)
        return cls(
            spec=spec,
            norm_eps=reader.epsilon("layer_norm_eps", 1e-12),
            activation=reader.plain_activation("hidden_act", "silu"),
            num_segments=reader.integer("type_vocab_size", 2),
            score=read_score_activation(reader) if spec.task is Task.SCORE else None,
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(self.spec, embedding="nomic_bert.embeddings.word_embeddings", head=None)

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        name = f"nomic_bert.encoder.layers.{layer}.attn"
        return attention_projections(self.spec, name, ("Wqkv", "out_proj"))

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Gate and up; down."""
        name = f"nomic_bert.encoder.layers.{layer}.mlp"
        return gated_projections(self.spec, name, ("fc12", "fc11", "fc2"))

    def head(self) -> tuple[Projection, Projection]:
        """The pooler; the classifier."""
        return score_projections(self.spec, "nomic_bert.pooler.dense", "classifier")

    def build(self, load: ModelBuilder) -> Bert:
        name, width = "nomic_bert.embeddings.token_type_embeddings", self.spec.hidden_size
        tokens, _ = load.tables(self.tables)
        embeddings = SummedEmbeddings(
            tokens,
            None,
            load.tensor(f"{name}.weight", self.num_segments, width),
            load.layer_norm("nomic_bert.emb_ln", width, self.norm_eps),
        )
        blocks = [self._block(layer, load) for layer in range(self.spec.num_layers)]
        return Bert(self.spec, embeddings, blocks, self.score_head(load))

    def _block(self, layer: int, load: ModelBuilder) -> PostNormBlock:
        name, width = f"nomic_bert.encoder.layers.{layer}", self.spec.hidden_size
        return PostNormBlock(
            load.encoder_attention(self.spec, layer, *self.attention(layer)),
            load.layer_norm(f"{name}.norm1", width, self.norm_eps),
            load.encoder_gated_mlp(*self.mlp(layer), self.activation),
            load.layer_norm(f"{name}.norm2", width, self.norm_eps),
            load.reduce,
        )


def _with_common_names(reader: ConfigReader) -> ConfigReader:
    """Raises `ModelUnsupportedError` for another model of the first implementation."""
    reader.skip(*_NOT_READ)
    for name, value in _ONLY.items():
        reader.refuse_others(name, value, None)
    return reader.renamed(_PUBLISHED_NAMES)


def _read_spec(reader: ConfigReader) -> ModelSpec:
    rope = read_rope(
        reader,
        head_dim=reader.integer("hidden_size") // reader.integer("num_attention_heads"),
        max_position=reader.integer("max_position_embeddings", _CONTEXT),
        defaults=RopeDefaults(theta=_THETA),
    )
    return read_encoder_spec(reader, default_context=_CONTEXT, rotary=(rope,))
