"""Tensor parallelism of transformers' modules: which of their products ranks cut, by transformers' own plan.

Each config names its modules' styles (`base_model_tp_plan`), which its authors have tried: a column-parallel
product gives a rank its heads or channels, a row-parallel one is a partial sum. Modules between the two
compute each head or channel by itself then. What has no plan, or a style that is not implemented, is refused.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from octavo.layers.projection import Shard
from octavo.models.from_transformers.experts import DOWN, GATE_UP
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


# Whose parameters every rank has whole; what more it says is of gradients.
_WHOLE = frozenset({"replicated_with_grad_allreduce"})


# Of an expert's halves, gate and up, each by outputs; what is then summed.
_PARTS_OF_EXPERTS = {GATE_UP: "packed_colwise", DOWN: Style.ROW.value}


@dataclass(frozen=True, slots=True)
class SharingPlan:
    """
    Args:
        styles: Of products by their modules' paths; others are whole on every rank.
        problem: Why ranks cannot share the model; None: they can.
        cuts_experts: Each has a part of every expert; else all of them.
    """

    styles: Mapping[str, Style]
    problem: str | None = None
    cuts_experts: bool = False

    def style_of(self, names: Iterable[str]) -> Style | None:
        """Of modules that are one product, all of which have the same; see `sharing_plan`."""
        return next((self.styles.get(name) for name in names), None)


def sharing_plan(outline: Outline, given: Mapping[str, Any] | None) -> SharingPlan:
    """
    Args:
        given: `base_model_tp_plan`: patterns of paths within the base with their styles.
    """
    if not given:
        return SharingPlan(
            {}, "transformers has no plan of how ranks share it (base_model_tp_plan)"
        )
    styles: dict[str, Style] = {}
    experts: dict[str, object] = {}
    own_experts = {name for layer in outline.experts if layer.is_usual for name in layer.parameters}
    known = {style.value: style for style in Style}
    products = {name for names in outline.products for name in names}
    modules = {name.removesuffix(".weight") for name in outline.parameters}
    for pattern, style in given.items():
        for module in _matching(outline.base, pattern, modules):
            if style in _WHOLE:
                continue
            if module in own_experts:
                experts[module] = style
                continue
            if style not in known:
                return SharingPlan({}, f"{module} would be shared by the style {style!r}")
            if module not in products:
                return SharingPlan({}, f"{module} is no product that Octavo's own stands in for")
            styles[module] = known[style]
    problem = _problem_of_groups(outline, styles)
    if problem is None and experts:
        problem = _problem_of_experts(own_experts, experts)
    return SharingPlan(styles, problem, cuts_experts=bool(experts))


def _matching(base: str, pattern: str, modules: Iterable[str]) -> Iterator[str]:
    expression = re.compile(rf"{re.escape(base)}\.{re.escape(pattern)}".replace(r"\*", r"\d+"))
    return (module for module in sorted(modules) if expression.fullmatch(module))


def _problem_of_experts(own: Iterable[str], styles: Mapping[str, object]) -> str | None:
    """Experts of which ranks would not have a part of each."""
    for name in sorted(own):
        wanted = _PARTS_OF_EXPERTS[name.rpartition(".")[2]]
        if styles.get(name) != wanted:
            return f"{name} would be shared by the style {styles.get(name)!r}, not {wanted!r}"
    return None


def _problem_of_groups(outline: Outline, styles: Mapping[str, Style]) -> str | None:
    """Products whose modules do not agree, and attention that would see other heads than a rank keeps."""
    for names in outline.products:
        if len({styles.get(name) for name in names}) > 1:
            return f"{' and '.join(names)} are one product, and their styles differ"
    for path, layer in zip(outline.attentions, outline.layers, strict=True):
        own = [name for names in outline.products for name in names if name.startswith(f"{path}.")]
        found = {styles.get(name) for name in own}
        if found != {Style.COLUMN, Style.ROW}:
            return f"the products of {path} are not cut by heads"
        for name in own:
            width = outline.parameters[f"{name}.weight"][0]
            if styles[name] is Style.COLUMN and width % layer.head_dim:
                return f"{name} has {width} outputs, no multiple of the heads' {layer.head_dim}"
    return None
