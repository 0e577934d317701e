"""A product's weight as the CPU's kernels read it: panels of 32 output features, one stream of bytes each.

In a panel the two inputs of a pair lie side by side for each output feature, which is the order that
AVX512-BF16 multiplies in. A step of a panel is `STEP` inputs deep:

- bfloat16: `[pair, 32 outputs, 2]`.
- int8: `[pair, 4, 2 halves, 4, 2]` of a pair's 32 outputs by 2 inputs: what interleaving bytes of
  128-bit lanes turns into two vectors of bfloat16. One float32 scale for each output feature.
- int4: groups of four steps, each `[2 halves, 16 outputs, 2]` of 16 bits, which hold the four pairs of a
  step in nibbles, lowest first, as code + 8. The group's 32 scales lie before it as bfloat16.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.reference.weight_only import INT4_GROUP, quantize_int4, quantize_int8

PANEL = 32
STEP = 8
# Panels that are packed at once: bounds what packing needs beside the weight and the result.
_CHUNK = 64


class PanelFormat(enum.Enum):
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def depth_multiple(self) -> int:
        return INT4_GROUP if self is PanelFormat.INT4 else STEP

    def panel_bytes(self, depth: int) -> int:
        """Of one panel."""
        if self is PanelFormat.INT4:
            return depth // INT4_GROUP * (2 * PANEL + PANEL * INT4_GROUP // 2)
        return depth * PANEL * (2 if self is PanelFormat.BFLOAT16 else 1)


@dataclass(frozen=True, slots=True)
class Panels:
    """`data` is `[panels, bytes]` uint8, `scales` `[32 * panels]` float32 for int8 and else None.

    Output features beyond `width` are zeros.
    """

    format: PanelFormat
    data: torch.Tensor
    scales: torch.Tensor | None
    width: int
    depth: int

    @property
    def num_bytes(self) -> int:
        return self.data.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def rows(self, features: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Weights of some output features, `[count, depth]`: the look-up of a tied embedding.

        Raises ValueError for int4, whose nibbles are for products alone.
        """
        panel, place = features // PANEL, features % PANEL
        pairs = self.depth // 2
        if self.format is PanelFormat.BFLOAT16:
            table = self.data.view(torch.bfloat16).view(-1, pairs, PANEL, 2)
            return table[panel, :, place].reshape(-1, self.depth).to(dtype)
        if self.scales is None:
            raise ValueError(f"Rows of {self.format.value} panels cannot be looked up.")
        codes = self.data.view(torch.int8).view(-1, pairs, 4, 2, 4, 2)
        found = codes[panel, :, place % 16 // 4, place // 16, place % 4]
        wide = found.reshape(-1, self.depth).float()
        return wide.mul_(self.scales[features].unsqueeze(1)).to(dtype)


def takes(weight: torch.Tensor, panel_format: PanelFormat) -> bool:
    """Whether a weight `[out_features, in_features]` fits whole vectors and groups."""
    width, depth = weight.shape
    return width % 16 == 0 and depth % panel_format.depth_multiple == 0


def pack(weight: torch.Tensor, panel_format: PanelFormat) -> Panels:
    """Packs `[out_features, in_features]` of a float dtype, some panels at a time.

    Raises ValueError when it does not fit; see `takes`.
    """
    width, depth = weight.shape
    if not takes(weight, panel_format):
        raise ValueError(
            f"A weight of shape [{width}, {depth}] fits no {panel_format.value} panels."
        )
    panels = -(-width // PANEL)
    data = torch.empty((panels, panel_format.panel_bytes(depth)), dtype=torch.uint8)
    scales = torch.zeros(panels * PANEL) if panel_format is PanelFormat.INT8 else None
    for first in range(0, panels, _CHUNK):
        last = min(first + _CHUNK, panels)
        part = weight[first * PANEL : last * PANEL]
        part = F.pad(part, (0, 0, 0, (last - first) * PANEL - part.shape[0]))
        packed, part_scales = _PACKERS[panel_format](part)
        data[first:last] = packed.contiguous().view(torch.uint8).view(last - first, -1)
        if scales is not None and part_scales is not None:
            scales[first * PANEL : last * PANEL] = part_scales
    return Panels(panel_format, data, scales, width, depth)


def _pack_bfloat16(weight: torch.Tensor) -> tuple[torch.Tensor, None]:
    depth = weight.shape[1]
    pairs = weight.to(torch.bfloat16).view(-1, PANEL, depth // 2, 2)
    return pairs.transpose(1, 2), None


def _pack_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    depth = weight.shape[1]
    quantized = quantize_int8(weight)
    parts = quantized.codes.view(
        -1, 2, 4, 4, depth // 2, 2
    )  # panel, half, lane, output, pair, parity
    return parts.permute(0, 4, 2, 1, 3, 5), quantized.scales.view(-1)


def _pack_int4(weight: torch.Tensor) -> tuple[torch.Tensor, None]:
    depth = weight.shape[1]
    quantized = quantize_int4(weight)
    groups = depth // INT4_GROUP
    parts = quantized.codes.view(-1, 2, 16, groups, 4, 4, 2).to(torch.int32) + 8
    shifts = torch.tensor([0, 4, 8, 12], dtype=torch.int32).view(4, 1)
    words = (
        (parts << shifts).sum(dim=-2).to(torch.int16)
    )  # panel, half, output, group, step, parity
    nibbles = words.permute(0, 3, 4, 1, 2, 5).contiguous().view(torch.uint8)
    scales = quantized.scales.bfloat16().view(-1, PANEL, groups).transpose(1, 2).contiguous()
    panels = nibbles.shape[0]
    return torch.cat(
        [scales.view(torch.uint8).view(panels, groups, -1), nibbles.view(panels, groups, -1)],
        dim=-1,
    ), None


_Packer = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
_PACKERS: dict[PanelFormat, _Packer] = {
    PanelFormat.BFLOAT16: _pack_bfloat16,
    PanelFormat.INT8: _pack_int8,
    PanelFormat.INT4: _pack_int4,
}
