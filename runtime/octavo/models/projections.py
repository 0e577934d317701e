"""Projections of layers that most decoders have: grouped-query attention, a gated feed-forward block."""

from __future__ import annotations

from octavo.layers.projection import Projection, Shard
from octavo.models.spec import ModelSpec


def attention_projections(
    spec: ModelSpec,
    prefix: str,
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
) -> tuple[Projection, Projection]:
    """Queries, keys and values as one product, and the output.

    Args:
        names: Of the four parameters, behind `prefix`.
    """
    query, key, value, output = (f"{prefix}.{name}" for name in names)
    return (
        Projection(
            names=(query, key, value),
            in_features=spec.hidden_size,
            out_features=(spec.query_width, spec.kv_width, spec.kv_width),
            bias=qkv_bias,
            shard=Shard.COLUMN,
        ),
        Projection(
            names=(output,),
            in_features=spec.query_width,
            out_features=(spec.hidden_size,),
            bias=output_bias,
            shard=Shard.ROW,
        ),
    )


def gated_projections(
    spec: ModelSpec,
    prefix: str,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    *,
    bias: bool = False,
) -> tuple[Projection, Projection]:
    """Gate and up as one product, and down.

    Args:
        names: Of the three parameters, behind `prefix`.
    """
    gate, up, down = (f"{prefix}.{name}" for name in names)
    return (
        Projection(
            names=(gate, up),
            in_features=spec.hidden_size,
            out_features=(spec.inner_size, spec.inner_size),
            bias=bias,
            shard=Shard.COLUMN,
        ),
        Projection(
            names=(down,),
            in_features=spec.inner_size,
            out_features=(spec.hidden_size,),
            bias=bias,
            shard=Shard.ROW,
        ),
    )
