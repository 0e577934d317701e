"""Token masks, applied: what a row may not draw gets a score of minus infinity, so that no draw and no filter
can bring it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from octavo.kernels.packed_step import PackedView, Packer
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.processors.base import DeviceProcessor, PackedShape
from octavo.sampling.state import SamplingState
from octavo.token_mask import WORD_BITS, Mask

MaskOf = Callable[[SamplingState], Mask | None]


def apply_on_host(mask: Mask, scores: Floats) -> None:
    """Changes `scores` `[vocab]` in place."""
    allowed = np.unpackbits(mask.view(np.uint8), count=len(scores), bitorder="little")
    scores[allowed == 0] = -np.inf


def pack_masks(samples: Sequence[int], masks: Sequence[Mask], packer: Packer) -> PackedMasks:
    """Of some of a step's samples."""
    return PackedMasks(
        count=len(samples),
        words=len(masks[0]),
        samples=packer.put(np.array(samples, dtype=np.int64)),
        masks=packer.put(np.stack(masks)),
    )


class DeviceMasks(DeviceProcessor):
    """Masks of rows on the device.

    Args:
        of_row: Called when a row begins; what it gives is asked for the mask of each of the row's samples,
            None where nothing is forbidden.
    """

    def __init__(self, of_row: Callable[[SamplingState], MaskOf]) -> None:
        self._of_row = of_row
        self._rows: dict[int, MaskOf] = {}

    @property
    def has_rows(self) -> bool:
        """Some that began and were not released."""
        return bool(self._rows)

    def begin(self, row: int, state: SamplingState) -> None:
        self._rows[row] = self._of_row(state)

    def release(self, row: int) -> None:
        del self._rows[row]

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        samples, masks = list[int](), list[Mask]()
        for sample, row in enumerate(rows.tolist()):
            mask_of_row = self._rows.get(row)
            if mask_of_row is not None and (mask := mask_of_row(states[sample])) is not None:
                samples.append(sample)
                masks.append(mask)
        return pack_masks(samples, masks, packer) if samples else None


@dataclass(frozen=True, slots=True)
class PackedMasks(PackedShape):
    """Where the samples (int64) and their masks (int32) lie."""

    count: int
    words: int
    samples: int
    masks: int

    def shape(self, scores: torch.Tensor, view: PackedView) -> None:
        samples = view.int64(self.samples, self.count)
        masks = view.int32(self.masks, self.count * self.words).view(self.count, self.words, 1)
        bits = torch.arange(WORD_BITS, dtype=torch.int32, device=scores.device)
        forbidden = ((masks >> bits) & 1 == 0).flatten(1)[:, : scores.shape[1]]
        scores.index_copy_(0, samples, scores[samples].masked_fill_(forbidden, -torch.inf))
