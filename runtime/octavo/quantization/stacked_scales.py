"""Stacked scales: those of all experts of a layer in one tensor, as transformers writes FP8.

Its module of experts holds two weights, gate above up, and down, and beside each its scales; it saves the
weights one by one where a model's checkpoints do, and the scales as they are:

- `experts.gate_up_proj_scale_inv` `[experts, rows, columns]`: of blocks of outputs and inputs, those of the
  gate first. Where gate and up have one block each, they have one row each.
- `experts.down_proj_scale_inv` `[experts, rows, columns]`.
- `experts.gate_up_proj_activation_scale`, and of down, `[experts]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from octavo.loading import Slice, WeightSource
from octavo.quantization.scales import Spread, pass_over, scales_of_outputs

_EXPERT = re.compile(r"(?P<experts>.+\.experts)\.(?P<number>\d+)\.(?P<matrix>\w+)")
_BOTH, _DOWN = "gate_up_proj", "down_proj"
# Of an expert's matrices, Mixtral's names among them: the weight that it is of, and which of its parts.
_PARTS = {
    "gate_proj": (_BOTH, 0),
    "w1": (_BOTH, 0),
    "up_proj": (_BOTH, 1),
    "w3": (_BOTH, 1),
    "down_proj": (_DOWN, 0),
    "w2": (_DOWN, 0),
}
_SCALES, _OF_ACTIVATIONS = "_scale_inv", "_activation_scale"


@dataclass(frozen=True, slots=True)
class StackedScales:
    """Where those of one matrix lie.

    Args:
        weight: Of the layer's, without what names its scales.
        shape: Of the tensor that holds all of them.
        expert: Whose they are.
        part: Of the weight's outputs, which the matrix has; None: all.
    """

    weight: str
    shape: tuple[int, int, int]
    expert: int
    part: int | None

    @classmethod
    def find(cls, name: str, source: WeightSource) -> StackedScales | None:
        """Of an expert's matrix; None where it is none, or the checkpoint has no such scales.

        Args:
            name: Prefix of its parameter.
        """
        found = _EXPERT.fullmatch(name)
        if found is None or found["matrix"] not in _PARTS:
            return None
        leaf, part = _PARTS[found["matrix"]]
        weight, expert = f"{found['experts']}.{leaf}", int(found["number"])
        shape = source.shape(f"{weight}{_SCALES}")
        if shape is None or len(shape) != 3 or expert >= shape[0]:
            return None
        return cls(weight, shape, expert, part if leaf == _BOTH else None)

    def read(
        self, spreads: tuple[Spread, ...], width: int, depth: int, source: WeightSource
    ) -> tuple[torch.Tensor, Spread]:
        """As `read_scales`."""
        name = f"{self.weight}{_SCALES}"
        pass_over((f"{self.weight}{_OF_ACTIVATIONS}",), source)
        one = Slice(0, self.expert, self.expert + 1)
        (stored,) = source.tensors({name: self.shape}, one)
        for spread in spreads:
            own = self._rows(stored[0], spread, width, depth, source)
            if own is not None:
                return own, spread
        first, *_ = (spread.shape(width, depth) for spread in spreads)
        source.note(
            f"{name} has shape {list(self.shape)}, which is not that of an expert's blocks of "
            f"{[width, depth]} numbers, {list(first)}"
        )
        return torch.ones(width, first[1]), spreads[0]

    def _rows(
        self, stored: torch.Tensor, spread: Spread, width: int, depth: int, source: WeightSource
    ) -> torch.Tensor | None:
        """The matrix' of the expert's, `[width, groups]`; None where these are of other blocks."""
        name, part, own = f"{self.weight}{_SCALES}", self.part, spread.shape(width, depth)
        if part is None:
            return (
                scales_of_outputs(name, stored, spread, width, source)
                if stored.shape == own
                else None
            )
        if stored.shape == (2 * own[0], own[1]):
            half = stored[part * own[0] : (part + 1) * own[0]]
            return scales_of_outputs(name, half, spread, width, source)
        if stored.shape != spread.shape(2 * width, depth):
            return None
        both = scales_of_outputs(name, stored, spread, 2 * width, source)
        return both[part * width : (part + 1) * width]  # a block may be of both
