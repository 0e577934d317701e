"""Projections of layers that most decoders have: grouped-query attention, feed-forward blocks."""

from __future__ import annotations

from octavo.layers.head_order import HeadOrder
from octavo.layers.projection import Projection, Shard
from octavo.models.spec import ModelSpec


def attention_projections(
    spec: ModelSpec,
    prefix: str,
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    is_grouped: bool = False,
) -> tuple[Projection, Projection]:
    """Queries, keys and values as one product, and the output.

    Args:
        names: Of the parameters, behind `prefix`: three, or one that holds all three, and the output's.
        is_grouped: See `HeadOrder`.
    """
    *qkv, output = (f"{prefix}.{name}" for name in names)
    order = None
    if is_grouped or spec.rotary_width:
        order = HeadOrder(
            spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.rotary_width, is_grouped
        )
    return (
        Projection(
            names=tuple(qkv),
            in_features=spec.hidden_size,
            out_features=(spec.query_width, spec.kv_width, spec.kv_width),
            bias=qkv_bias,
            shard=Shard.COLUMN,
            order=order,
            unit=spec.head_dim,
        ),
        _back(spec, output, spec.query_width, bias=output_bias),
    )


def gated_projections(
    spec: ModelSpec,
    prefix: str,
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj"),
    *,
    bias: bool = False,
    inner_size: int | None = None,
    is_routed: bool = False,
) -> tuple[Projection, Projection]:
    """Gate and up as one product, and down.

    Args:
        names: Of the parameters, behind `prefix`: two, or one that holds both, and down's.
        inner_size: Between the products; None: the spec's.
        is_routed: See `Projection`.
    """
    *gate_up, down = (f"{prefix}.{name}" for name in names)
    inner_size = inner_size or spec.inner_size
    return (
        Projection(
            names=tuple(gate_up),
            in_features=spec.hidden_size,
            out_features=(inner_size, inner_size),
            bias=bias,
            shard=Shard.COLUMN,
            is_routed=is_routed,
        ),
        _back(spec, down, inner_size, bias=bias, is_routed=is_routed),
    )


def plain_projections(
    spec: ModelSpec, prefix: str, names: tuple[str, str], *, bias: bool
) -> tuple[Projection, Projection]:
    """Up and down, with an activation between them and no gate.

    Args:
        names: Of the two parameters, behind `prefix`.
    """
    up, down = (f"{prefix}.{name}" for name in names)
    return (
        Projection(
            names=(up,),
            in_features=spec.hidden_size,
            out_features=(spec.inner_size,),
            bias=bias,
            shard=Shard.COLUMN,
        ),
        _back(spec, down, spec.inner_size, bias=bias),
    )


def _back(
    spec: ModelSpec, name: str, in_features: int, *, bias: bool, is_routed: bool = False
) -> Projection:
    """What leads back to the residual stream."""
    return Projection(
        names=(name,),
        in_features=in_features,
        out_features=(spec.hidden_size,),
        bias=bias,
        shard=Shard.ROW,
        is_routed=is_routed,
    )
