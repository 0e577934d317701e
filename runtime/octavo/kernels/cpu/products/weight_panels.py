"""Weight panels. A product's weight as the CPU's kernels read it: panels of 32 output features, one stream of
bytes each.

In a panel the two inputs of a pair lie side by side for each output feature, which is the order that
AVX512-BF16 multiplies in. A step of a panel is `STEP` inputs deep:

- bfloat16: `[pair, 32 outputs, 2]`.
- float16: `[pair, 2 halves, 2, 16 outputs]`, since each of a pair's inputs becomes a vector of float32.
- int8: `[pair, 4, 2 halves, 4, 2]` of a pair's 32 outputs by 2 inputs: what interleaving bytes of
  128-bit lanes turns into two vectors of bfloat16. One float32 scale for each output feature.
- int4: groups of four steps, each `[2 halves, 16 outputs, 2]` of 16 bits, which hold the four pairs of a
  step in nibbles, lowest first, as code + 8. The group's 32 scales lie before it as bfloat16.
- grouped int4, int8, float8 (e4m3) and mxfp4: what quantised checkpoints hold, to the bit. Steps as above,
  mxfp4's as int4's, in groups of any number of them. A group's 32 scales lie before it as float32, mxfp4's as
  the bytes of their exponents (E8M0), and, where zero is not 0, what stands for it as bfloat16, which holds
  these integers exactly.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import torch

from octavo.kernels.reference.weight_only import INT4_GROUP

PANEL = 32
STEP = 8
ZERO_BYTES = 2 * PANEL
"""Of what stands for zero, in a group of grouped panels."""


class PanelFormat(enum.Enum):
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"
    GROUPED_INT4 = "grouped int4"
    GROUPED_INT8 = "grouped int8"
    GROUPED_FLOAT8 = "grouped float8"
    GROUPED_MXFP4 = "grouped mxfp4"

    @classmethod
    def of(cls, dtype: torch.dtype) -> PanelFormat:
        """Of numbers as they are: bfloat16 and float16."""
        return {torch.bfloat16: cls.BFLOAT16, torch.float16: cls.FLOAT16}[dtype]

    @property
    def depth_multiple(self) -> int:
        return INT4_GROUP if self is PanelFormat.INT4 else STEP

    @property
    def is_grouped(self) -> bool:
        return self in _GROUPED

    @property
    def scale_bytes(self) -> int:
        """Of a group's scales in grouped panels."""
        return PANEL if self is PanelFormat.GROUPED_MXFP4 else 4 * PANEL

    def header_bytes(self, grouping: Grouping) -> int:
        """Before each group."""
        return self.scale_bytes + (ZERO_BYTES if grouping.has_zeros else 0)

    def panel_bytes(self, depth: int, grouping: Grouping | None = None) -> int:
        """Of one panel."""
        if self is PanelFormat.INT4:
            return depth // INT4_GROUP * (2 * PANEL + PANEL * INT4_GROUP // 2)
        if self in (PanelFormat.BFLOAT16, PanelFormat.FLOAT16):
            return depth * PANEL * 2
        data = depth * PANEL // 2 if self in _OF_NIBBLES else depth * PANEL
        if grouping is None:
            return data
        return data + depth // grouping.size * self.header_bytes(grouping)


_GROUPED = frozenset(
    {
        PanelFormat.GROUPED_INT4,
        PanelFormat.GROUPED_INT8,
        PanelFormat.GROUPED_FLOAT8,
        PanelFormat.GROUPED_MXFP4,
    }
)
_OF_NIBBLES = frozenset({PanelFormat.GROUPED_INT4, PanelFormat.GROUPED_MXFP4})


@dataclass(frozen=True, slots=True)
class Grouping:
    """Of a grouped format.

    Args:
        size: Inputs that share a scale, a multiple of `STEP` that divides all of them.
        has_zeros: Zero is an integer other than 0 in some group.
    """

    size: int
    has_zeros: bool = False


@dataclass(frozen=True, slots=True)
class Panels:
    """`data` is `[panels, bytes]` uint8, `scales` `[32 * panels]` float32 for int8 and else None.

    Output features beyond `width` are zeros or repeat the last one.

    Args:
        grouping: Of grouped formats, and of no others.
    """

    format: PanelFormat
    data: torch.Tensor
    scales: torch.Tensor | None
    width: int
    depth: int
    grouping: Grouping | None = None

    @property
    def num_bytes(self) -> int:
        return self.data.nbytes + (0 if self.scales is None else self.scales.nbytes)


def takes(weight: torch.Tensor, panel_format: PanelFormat) -> bool:
    """Whether a weight `[out_features, in_features]` fits whole vectors and groups."""
    width, depth = weight.shape
    return fits(width, depth, panel_format)


def fits(width: int, depth: int, panel_format: PanelFormat) -> bool:
    """As `takes`, of a weight `[width, depth]`."""
    return width % 16 == 0 and depth % panel_format.depth_multiple == 0


def packed_bytes(
    width: int, depth: int, panel_format: PanelFormat, grouping: Grouping | None = None
) -> int:
    """`Panels.num_bytes` of a weight `[width, depth]`, before there is one."""
    panels = -(-width // PANEL)
    scales = panels * PANEL * 4 if panel_format is PanelFormat.INT8 else 0
    return panels * panel_format.panel_bytes(depth, grouping) + scales
