"""Token counts of guesses: what penalties look at in rows that are sampled before it is known whether the
guesses before them come true.

Each such row has counts of its own for the step, the sequence's with the guesses added. What was drawn is
counted in the sequence's own, as far as the guesses before it came true: the device knows that, and the host
learns it later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from octavo.kernels.packed_step import PackedView, Packer
from octavo.kernels.protocols.device import DeviceKernels
from octavo.sampling.arrays import Int32s
from octavo.sampling.state import SamplingState

NO_COUNTS = -1
"""Row of the token counts of a sequence without penalties."""
_ALIGNED = 4
"""Numbers: sections of sections begin at multiples, so that no kernel is compiled for another address."""


@dataclass(frozen=True, slots=True)
class GuessedCounts:
    """Places in the packed step, of a step with guesses.

    Args:
        num_copies: Samples with guesses before them.
        copies: Where `[2, num_copies]` int64 lie: rows of the counts of their sequences, and their own.
        most: Guesses before a sample.
        width: Samples, and what aligns them.
        rows: Where `[most, width]` int32 lie: of each sample with more than i guesses its own row.
        tokens: Where `[most, width]` int64 lie: its guess i.
        owners: Where `[most + 1, width]` int32 lie: of each sample with i guesses its sequence's row.
    """

    num_copies: int
    copies: int
    most: int
    width: int
    rows: int
    tokens: int
    owners: int

    def prepare(self, counts: torch.Tensor, kernels: DeviceKernels, view: PackedView) -> None:
        """Queues what makes the samples' own rows of `counts` `[rows, vocab]`."""
        sources, targets = view.int64(self.copies, 2 * self.num_copies).chunk(2)
        counts.index_copy_(0, targets, counts.index_select(0, sources))
        for index in range(self.most):
            first = index * self.width
            kernels.count_tokens(
                counts,
                view.int32(self.rows + first, self.width),
                view.int64(self.tokens + 2 * first, self.width),
            )

    def count(
        self, tokens: torch.Tensor, counts: torch.Tensor, kernels: DeviceKernels, view: PackedView
    ) -> None:
        """Queues the count of `tokens` `[samples]`, but for those below zero, one of a sequence at a time."""
        samples = tokens.shape[0]
        for index in range(self.most + 1):
            owners = view.int32(self.owners + index * self.width, samples)
            kernels.count_tokens(counts, torch.where(tokens >= 0, owners, NO_COUNTS), tokens)


def pack_guessed(
    count_rows: Int32s,
    states: Sequence[SamplingState],
    new_row: Callable[[], int],
    packer: Packer,
) -> tuple[Int32s, GuessedCounts | None]:
    """The row of the counts that each sample is penalised by, and what makes those of guesses.

    Args:
        count_rows: `[samples]`, those of the samples' sequences; `NO_COUNTS` without penalties.
        new_row: Gives one that nobody uses in this step.
    """
    guessed = [
        sample
        for sample, state in enumerate(states)
        if state.guesses and count_rows[sample] != NO_COUNTS
    ]
    if not guessed:
        return count_rows, None
    most = max(len(states[sample].guesses) for sample in guessed)
    width = -(-len(states) // _ALIGNED) * _ALIGNED
    own = count_rows.copy()
    owners = np.full((most + 1, width), NO_COUNTS, dtype=np.int32)
    owners[0, : len(states)] = count_rows
    rows = np.full((most, width), NO_COUNTS, dtype=np.int32)
    tokens = np.zeros((most, width), dtype=np.int64)
    for sample in guessed:
        guesses = states[sample].guesses
        own[sample] = new_row()
        owners[0, sample] = NO_COUNTS
        owners[len(guesses), sample] = count_rows[sample]
        rows[: len(guesses), sample] = own[sample]
        tokens[: len(guesses), sample] = guesses
    copies = np.stack([count_rows[guessed], own[guessed]]).astype(np.int64)
    return own, GuessedCounts(
        num_copies=len(guessed),
        copies=packer.put(copies),
        most=most,
        width=width,
        rows=packer.put(rows),
        tokens=packer.put(tokens),
        owners=packer.put(owners),
    )
