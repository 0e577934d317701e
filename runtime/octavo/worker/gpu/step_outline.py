"""Outline of a packed step: the few numbers by which a host launches it. With the packed array they are all
that another rank must be told.

As a frame it is one buffer of 32-bit integers, the outline's numbers and then the packed array, which is
uploaded as it came. How tokens are sampled is in the array, too, and is nothing to a rank that does not
sample.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from octavo.kernels.packed_step import Packer
from octavo.kernels.step_state import StepLayout

_INT = np.dtype("<i4")


@dataclass(frozen=True, slots=True)
class StepOutline:
    """Places are of the packed array, in its elements.

    Args:
        num_tokens: Rows of the step.
        max_query_len: Rows of the longest chunk, 1 in a step of decodes.
        graph_size: Of the recorded step that it runs in; 0: it is launched piece by piece.
        num_copies: Blocks that are copied before.
        copies: Where `[2, num_copies]` int64 lie: source and target blocks.
        num_samples: Rows that a token is sampled for.
        hidden_rows: Where `[num_samples]` int64 lie: row of each sample among the step's; -1 when sample i is
            row i.
        state_rows: Where `[num_samples]` int64 lie: row of each in `SequenceState`.
        num_scored: Rows of prompts whose scores are wanted.
        scored_rows: Where `[num_scored]` int64 lie: these rows.
        num_tiles: Of rows that have an adapter; 0: none has.
        num_places: How many rows have.
        tiles: Where the section of both lies; see `octavo.kernels.adapter_tiles`.
        num_adapters, seats: See `PackedTiles`.
    """

    layout: StepLayout
    num_tokens: int
    max_query_len: int
    graph_size: int
    num_copies: int
    copies: int
    num_samples: int
    hidden_rows: int
    state_rows: int
    num_scored: int
    scored_rows: int
    num_tiles: int
    num_places: int
    tiles: int
    num_adapters: int
    seats: int

    @property
    def is_empty(self) -> bool:
        """A device has nothing to do: what ended is known to the host alone."""
        return not self.layout.num_seqs and not self.num_copies


def pack_frame(outline: StepOutline, packer: Packer) -> bytes:
    layout, *numbers = astuple(outline)
    head = np.array([*layout, *numbers], dtype=_INT)
    # Zeroed, because nothing is put between sections.
    frame = np.zeros(head.size + packer.size, dtype=_INT)
    frame[: head.size] = head
    packer.write(frame[head.size :])
    return frame.tobytes()


def unpack_frame(frame: bytes) -> tuple[StepOutline, Packer, np.ndarray]:
    """The last is what the packer holds."""
    numbers = np.frombuffer(frame, dtype=_INT)
    head = numbers[: _LAYOUT_NUMBERS + _OWN_NUMBERS].tolist()
    packer, packed = Packer(), numbers[_LAYOUT_NUMBERS + _OWN_NUMBERS :]
    packer.put(packed)
    outline = StepOutline(StepLayout(*head[:_LAYOUT_NUMBERS]), *head[_LAYOUT_NUMBERS:])
    return outline, packer, packed


_LAYOUT_NUMBERS = len(StepLayout.__dataclass_fields__)
_OWN_NUMBERS = len(StepOutline.__dataclass_fields__) - 1
