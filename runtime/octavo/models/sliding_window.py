"""Sliding windows. Which layers attend within a sliding window, and how wide it is."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.errors import ModelInvalidError
from octavo.models.config_reader import ConfigReader

KINDS = ("sliding_attention", "full_attention")
"""Of layers, in `layer_types`: the first has the window."""


def window_everywhere(
    reader: ConfigReader, default: int | None = None
) -> tuple[int | None, ...] | None:
    """One window for all layers; None for null. `default` stands in where the field is missing."""
    if reader.get("sliding_window", default) is None:
        return None
    window = reader.integer("sliding_window", default)
    return (window,) * reader.integer("num_hidden_layers")


def window_of_all_or_some(reader: ConfigReader, default: int) -> tuple[int | None, ...] | None:
    """As `window_everywhere`, but of the layers that `layer_types` names, where the file has it: transformers
    takes a Mistral of several kinds of layers for a Ministral."""
    windows = window_everywhere(reader, default)
    kinds = reader.get("layer_types")
    return windows if windows is None or kinds is None else window_by_kind(reader, kinds, default)


def window_from_layer(
    reader: ConfigReader, default_window: int, default_first: int
) -> tuple[int | None, ...] | None:
    """Qwen's switch `use_sliding_window`: the layers that `layer_types` names, or without it those from
    `max_window_layers` on. The defaults are of missing fields; a window of null is none."""
    window = reader.get("sliding_window", default_window)
    first = reader.get("max_window_layers", default_first)
    kinds = reader.get("layer_types")
    if not reader.flag("use_sliding_window") or window is None:
        if kinds is not None:
            _check_kinds(reader, kinds)
        return None
    if not isinstance(first, int) or first < 0:
        raise ModelInvalidError(
            f"config.json: max_window_layers is {first!r}; it must be an integer, 0 or more."
        )
    if kinds is None:
        count = reader.integer("num_hidden_layers")
        kinds = [KINDS[layer < first] for layer in range(count)]
    return window_by_kind(reader, kinds, default_window)


def full_attention_every(reader: ConfigReader, step: int, *, first: int = -1) -> list[str]:
    """Kinds of layers, for files without `layer_types`: every `step`th sees everything, counted from `first`;
    -1: each group of `step` ends with one that does."""
    layers = range(reader.integer("num_hidden_layers"))
    return [KINDS[layer % step == first % step] for layer in layers]


def window_by_kind(
    reader: ConfigReader, default_kinds: Sequence[str], default_window: int
) -> tuple[int | None, ...]:
    """The layers that `layer_types` calls sliding; the defaults are of missing fields."""
    kinds = reader.get("layer_types") or default_kinds
    _check_kinds(reader, kinds)
    if reader.has("sliding_window") and reader.get("sliding_window") is None and KINDS[0] in kinds:
        raise ModelInvalidError(
            "config.json: sliding_window is null, and layers are called sliding; it must say how many tokens "
            "these see, or layer_types that all layers have full_attention."
        )
    window = reader.integer("sliding_window", default_window)
    return tuple(window if kind == KINDS[0] else None for kind in kinds)


def _check_kinds(reader: ConfigReader, kinds: object) -> None:
    count = reader.integer("num_hidden_layers")
    if (
        not isinstance(kinds, Sequence)
        or len(kinds) != count
        or any(kind not in KINDS for kind in kinds)
    ):
        raise ModelInvalidError(
            f"config.json: layer_types must name {' or '.join(KINDS)} for each of the {count} layers."
        )
