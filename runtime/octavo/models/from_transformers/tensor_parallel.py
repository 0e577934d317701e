"""Tensor parallelism of transformers' modules: which of their products ranks cut, and what comes of it.

Each config names its modules' styles (`base_model_tp_plan`), which its authors have tried, as we have those
of `plans`: a column-parallel product gives a rank its heads or channels, a row-parallel one is a partial sum.
Modules between the two compute each head or channel by itself then. Where attention needs all heads, or there
is no plan, weights are cut all the same, and what comes of each product is made whole on every rank.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from octavo.layers.projection import Shard
from octavo.models.from_transformers.outline import Outline


class Style(enum.Enum):
    """Of a linear module, by transformers' names: cut by outputs or by inputs; or so that what goes in and
    comes out is whole on every rank."""

    COLUMN = "colwise"
    ROW = "rowwise"
    GATHERED_COLUMN = "colwise_gather_output"
    SPLIT_ROW = "rowwise_split_input"

    @property
    def shard(self) -> Shard:
        is_column = self in (Style.COLUMN, Style.GATHERED_COLUMN)
        return Shard.COLUMN if is_column else Shard.ROW

    @property
    def is_between_whole(self) -> bool:
        """What goes in and comes out is whole."""
        return self in (Style.GATHERED_COLUMN, Style.SPLIT_ROW)


_BY_HEADS = {Style.GATHERED_COLUMN: Style.COLUMN, Style.SPLIT_ROW: Style.ROW}
_BETWEEN_WHOLE = {cut: whole for whole, cut in _BY_HEADS.items()}
# Whose parameters every rank has whole; what more it says is of gradients.
_WHOLE = frozenset({"replicated_with_grad_allreduce"})


@dataclass(frozen=True, slots=True)
class SharingPlan:
    """
    Args:
        styles: Of products by their modules' paths; others are whole on every rank.
        problem: Why ranks cannot share the model; None: they can.
        cuts_experts: Each has a part of every expert; else all of them.
        whole_heads: Why each rank has all of attention's heads, and so a whole KV cache; None: it has some.
    """

    styles: Mapping[str, Style]
    problem: str | None = None
    cuts_experts: bool = False
    whole_heads: str | None = None

    def style_of(self, names: Iterable[str]) -> Style | None:
        """Of modules that are one product, all of which have the same; see `sharing_plan`."""
        return next((self.styles.get(name) for name in names), None)


class _UnknownError(Exception):
    """A plan asks for what is not implemented."""


def sharing_plan(outline: Outline, given: Mapping[str, Any]) -> SharingPlan:
    """
    Args:
        given: Patterns of paths within the base with their styles.
    """
    products = [name for names in outline.products for name in names]
    if not products:
        return SharingPlan({}, "none of their products is one that Octavo's own stands in for")
    cuts_experts = bool(outline.experts) and all(layer.is_usual for layer in outline.experts)
    try:
        styles = _styles(outline, given)
    except _UnknownError as error:
        styles = dict.fromkeys(products, Style.GATHERED_COLUMN)
        return SharingPlan(styles, cuts_experts=cuts_experts, whole_heads=str(error))
    attention = {name for name in styles if name.startswith(_within_attentions(outline))}
    if outline.heads.norms and all(styles[name].is_between_whole for name in attention):
        # For the norm's sake, which is over all heads, and for which ranks sum their squares.
        styles |= {name: _BY_HEADS[styles[name]] for name in attention}
    problem = outline.heads.problem or _problem_of_heads(outline, styles)
    if problem is not None:
        styles |= {name: _BETWEEN_WHOLE.get(styles[name], styles[name]) for name in attention}
    return SharingPlan(styles, cuts_experts=cuts_experts, whole_heads=problem)


def _styles(outline: Outline, given: Mapping[str, Any]) -> dict[str, Style]:
    """Of products. Raises `_UnknownError`."""
    if not given:
        raise _UnknownError("there is no plan of how ranks share them")
    styles: dict[str, Style] = {}
    known = {style.value: style for style in Style}
    products = {name for names in outline.products for name in names}
    modules = {name.removesuffix(".weight") for name in outline.parameters}
    # Theirs is known without a plan.
    ours = {name for layer in outline.experts for name in layer.parameters}
    for pattern, style in given.items():
        for module in _matching(outline.base, pattern, modules):
            if style in _WHOLE or module in ours:
                continue
            if module not in products and module.startswith(_within_attentions(outline)):
                continue  # see `heads`
            if style not in known:
                raise _UnknownError(f"{module} would be shared by the style {style!r}")
            if module not in products:
                raise _UnknownError(f"{module} is no product that Octavo's own stands in for")
            styles[module] = known[style]
    if not styles:
        raise _UnknownError("their plan names none of their products")
    for names in outline.products:
        if len({styles.get(name) for name in names}) > 1:
            raise _UnknownError(f"{' and '.join(names)} are one product, and their styles differ")
    return styles


def _matching(base: str, pattern: str, modules: Iterable[str]) -> Iterator[str]:
    expression = re.compile(rf"{re.escape(base)}\.{re.escape(pattern)}".replace(r"\*", r"\d+"))
    return (module for module in sorted(modules) if expression.fullmatch(module))


def _within_attentions(outline: Outline) -> tuple[str, ...]:
    return tuple(f"{path}." for path in outline.attentions)


def _problem_of_heads(outline: Outline, styles: Mapping[str, Style]) -> str | None:
    """Attention that would see other heads than a rank keeps."""
    for path, layer in zip(outline.attentions, outline.layers, strict=True):
        own = [name for names in outline.products for name in names if name.startswith(f"{path}.")]
        if {styles.get(name) for name in own} != {Style.COLUMN, Style.ROW}:
            return f"the products of {path} are not cut by heads"
        for name in own:
            width = outline.sizes(name)[0]
            if styles[name] is Style.COLUMN and width % layer.head_dim:
                return f"{name} has {width} outputs, no multiple of the heads' {layer.head_dim}"
    return None
