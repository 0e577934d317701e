"""Rotary embedding as config.json describes it, under its names of today and of before transformers 5."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.layers.rotary import RopeConfig, RopeScaling
from octavo.models.config_reader import ConfigReader

_SCALINGS: Mapping[str, RopeScaling] = {one.value: one for one in RopeScaling}
# Whose positions are counted from an original context. A field beside `rope_parameters` wins over one in it.
_WITH_ORIGINAL = (RopeScaling.LLAMA3, RopeScaling.YARN, RopeScaling.LONGROPE)
# Fields of scalings, which those of another kind may carry along: transformers looks at none of them then.
_OF_SOME_KIND = (
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "low_freq_factor",
    "high_freq_factor",
    "short_factor",
    "long_factor",
    "finetuned",  # of the first YaRN checkpoints: it changed how another dynamic form grows
)

_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeDefaults:
    """What a family means by rotary fields that its config.json leaves out, and by the names of scalings.

    Args:
        theta: Where no field names one.
        partial: Share of a head's channels that turn, where no field names it; None: the family turns all,
            and a file that says otherwise is refused.
        original: `original_max_position_embeddings`, where it is not beside `rope_parameters`; None: what
            these name, or `max_position_embeddings`.
        scalings: By the names of `rope_type`.
    """

    theta: float = 10_000.0
    partial: float | None = None
    original: int | None = None
    scalings: Mapping[str, RopeScaling] = field(default_factory=lambda: _SCALINGS)


def read_rope(
    reader: ConfigReader, *, head_dim: int, max_position: int, defaults: RopeDefaults
) -> RopeConfig:
    """Reads `rope_parameters`, or `rope_theta` with `rope_scaling`.

    Args:
        max_position: The config's `max_position_embeddings`.

    Raises `ModelUnsupportedError` for what is not implemented or not known, and `ModelInvalidError`.
    """
    given = reader.get("rope_scaling") or reader.get(
        "rope_parameters"
    )  # in this order, as transformers
    rope = reader.with_values(rope_parameters=given).part("rope_parameters")
    return _rope(rope, reader, head_dim, max_position, defaults)


def read_rope_of_kinds(
    reader: ConfigReader,
    *,
    head_dim: int,
    max_position: int,
    thetas: Mapping[str, tuple[str, float]],
    is_first_scaled: bool = True,
) -> tuple[RopeConfig, ...]:
    """Reads `rope_parameters` that hold an object for each kind of layers, in the order of `thetas`. Before
    transformers 5 each kind had a field for its theta.

    Args:
        thetas: Of each kind, that field and what it is where nothing names it.
        is_first_scaled: `rope_scaling` is the first kind's; else it is refused, as it says of neither.

    Raises as `read_rope`.
    """
    given = reader.get("rope_parameters") or {}
    scaling = reader.get("rope_scaling") or {}
    if not isinstance(given, dict) or not isinstance(scaling, dict):
        raise ModelInvalidError(
            "config.json: rope_parameters and rope_scaling must be objects, if they are there."
        )
    if scaling and not is_first_scaled:
        raise ModelUnsupportedError(
            "config.json: rope_scaling does not say which layers of this architecture it is of; write "
            f"rope_parameters with an object for each of {', '.join(thetas)}."
        )
    kinds = ConfigReader(given, "rope_parameters")
    ropes: list[RopeConfig] = []
    for kind, (name, default) in thetas.items():
        own = kinds.get(kind) or {}
        if not isinstance(own, dict):
            raise ModelInvalidError(f"config.json: rope_parameters.{kind} must be an object.")
        rope = ConfigReader({**own, **({} if ropes else scaling)}, f"rope_parameters.{kind}")
        # transformers looks for it beside the kinds alone, where it would be of all of them.
        rope.refuse_others("truncate", True, None)
        defaults = RopeDefaults(theta=reader.factor(name, default))
        ropes.append(_rope(rope, ConfigReader({}), head_dim, max_position, defaults))
    kinds.refuse_unread()
    return tuple(ropes)


def _rope(
    rope: ConfigReader,
    reader: ConfigReader,
    head_dim: int,
    max_position: int,
    defaults: RopeDefaults,
) -> RopeConfig:
    """Of the parameters in `rope`; `reader` has the fields beside them."""
    scaling = _scaling(rope, defaults.scalings)
    width = _width(rope, reader, head_dim, defaults.partial)
    theta = rope.factor("rope_theta", reader.factor("rope_theta", defaults.theta))
    for name in _OF_SOME_KIND:
        rope.get(name)
    rope.refuse_unread()
    outside = reader.get("original_max_position_embeddings", defaults.original)
    if scaling is RopeScaling.NONE:
        return RopeConfig(theta, width)
    original = rope.integer("original_max_position_embeddings", max_position)
    if outside is not None and scaling in _WITH_ORIGINAL:
        original = reader.integer("original_max_position_embeddings", defaults.original)
    attention_factor = None
    if rope.get("attention_factor") is not None:
        attention_factor = rope.number("attention_factor")
    is_llama3, is_long = scaling is RopeScaling.LLAMA3, scaling is RopeScaling.LONGROPE
    found = RopeConfig(
        theta=theta,
        width=width,
        scaling=scaling,
        factor=_factor(rope, scaling, max_position / original),
        original_max_position=original,
        low_freq_factor=rope.number("low_freq_factor") if is_llama3 else 1.0,
        high_freq_factor=rope.number("high_freq_factor") if is_llama3 else 4.0,
        # Zero is none, as in transformers.
        beta_fast=rope.number("beta_fast", 32.0) or 32.0,
        beta_slow=rope.number("beta_slow", 1.0) or 1.0,
        truncate=bool(rope.get("truncate", True)),
        mscale=rope.number("mscale", 0.0),
        mscale_all_dim=rope.number("mscale_all_dim", 0.0),
        attention_factor=attention_factor,
        short_factors=_factors(rope, "short_factor", width or head_dim) if is_long else (),
        long_factors=_factors(rope, "long_factor", width or head_dim) if is_long else (),
    )
    _refuse_empty_spans(found)
    return found


def _refuse_empty_spans(rope: RopeConfig) -> None:
    """Between the two borders of a scaling's blend there must be something."""
    if rope.scaling is RopeScaling.LLAMA3 and rope.high_freq_factor <= rope.low_freq_factor:
        raise ModelInvalidError(
            f"config.json: rope_parameters.high_freq_factor is {rope.high_freq_factor:g}; it must be above "
            f"low_freq_factor, {rope.low_freq_factor:g}."
        )
    if rope.scaling is not RopeScaling.YARN:
        return
    if rope.theta <= 1.0:
        raise ModelInvalidError(
            f"config.json: rope_theta is {rope.theta:g}; with YaRN it must be above 1."
        )
    for name, value in (("beta_fast", rope.beta_fast), ("beta_slow", rope.beta_slow)):
        if value <= 0.0:
            raise ModelInvalidError(
                f"config.json: rope_parameters.{name} is {value:g}; it must be above 0."
            )


def _scaling(rope: ConfigReader, scalings: Mapping[str, RopeScaling]) -> RopeScaling:
    today, before = rope.get("rope_type"), rope.get("type")
    kind = today or before or "default"
    if not isinstance(kind, str) or kind not in scalings:
        raise ModelUnsupportedError(
            f"config.json: rope_type is {kind!r}; implemented for this architecture are "
            f"{', '.join(scalings)}."
        )
    return scalings[kind]


def _width(
    rope: ConfigReader, reader: ConfigReader, head_dim: int, default: float | None
) -> int | None:
    """Channels of a head that turn; None: all."""
    outside = reader.number("partial_rotary_factor", 1.0 if default is None else default)
    share = rope.number("partial_rotary_factor", outside)
    if default is None and share != 1.0:
        raise ModelUnsupportedError(
            f"config.json: partial_rotary_factor is {share:g}; other than 1 is not implemented for this "
            "architecture."
        )
    width = int(head_dim * share)
    if not 0 < width <= head_dim or width % 2:
        raise ModelInvalidError(
            f"config.json: partial_rotary_factor is {share:g}, so that {width} of a head's {head_dim} "
            "channels turn; they must be an even number, 2 or more."
        )
    return None if width == head_dim else width


def _factor(rope: ConfigReader, scaling: RopeScaling, ratio: float) -> float:
    """`ratio`, of the contexts, stands in where YaRN and LongRoPE name none."""
    if rope.get("factor") is None and scaling in (RopeScaling.YARN, RopeScaling.LONGROPE):
        return ratio
    factor = rope.number("factor")
    if factor <= 0.0:
        raise ModelInvalidError(
            f"config.json: rope_parameters.factor is {factor:g}; it must be above 0."
        )
    return factor


def _factors(rope: ConfigReader, name: str, width: int) -> tuple[float, ...]:
    factors: Any = rope.get(name)
    if (
        not isinstance(factors, list)
        or len(factors) != width // 2
        or not all(isinstance(one, int | float) and 0 < one <= _LARGEST for one in factors)
    ):
        raise ModelInvalidError(
            f"config.json: rope_parameters.{name} must be a list of {width // 2} positive numbers, "
            "one for each pair of a head's channels that turn."
        )
    return tuple(float(one) for one in factors)
