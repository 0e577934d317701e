"""Values of heads: slopes and sinks, as CPU kernels are told where they lie."""

from __future__ import annotations

from octavo.kernels.attention_options import AttentionOptions


def addresses_of_heads(options: AttentionOptions) -> tuple[int, int]:
    """Of the slopes and of the sinks; 0 where there are none."""
    values = (options.slopes, options.sinks)
    return tuple(0 if one is None else one.data_ptr() for one in values)  # type: ignore[return-value]
