"""State rows. Which row of the device's state belongs to which sequence, and what the device knows of it
already.

The host's half of the state: block tables and last tokens lie on the device (`SequenceState`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from octavo.sampling.device.rows import SamplingRows

_NO_ROW = -1


class StateRows:
    """Rows `0 … num_rows - 1`. No device memory is touched.

    Args:
        num_rows: At least the number of sequences that are alive at once.
        sampling: What is known of the same rows' sampling.

    Attributes, both `[num_rows]` and indexed by row:
        table_lengths: int64, entries of the block table that were sent.
        has_token: Whether a token was sampled, so that a pending one can be referred to.
    """

    def __init__(self, num_rows: int, sampling: SamplingRows) -> None:
        self.num_rows = num_rows
        self.sampling = sampling
        self._row_of: dict[int, int] = {}
        self._free = list(range(num_rows - 1, -1, -1))
        self.table_lengths = np.zeros(num_rows, dtype=np.int64)
        self.has_token = np.zeros(num_rows, dtype=bool)

    @property
    def num_used(self) -> int:
        return len(self._row_of)

    def acquire(self, sequence_ids: Iterable[int]) -> list[int]:
        """The row of each sequence; one that has none gets a fresh one.

        Raises:
            RuntimeError: More sequences are alive than there are rows.
        """
        row_of = self._row_of
        ids = list(sequence_ids)
        rows = [row_of.get(sequence_id, _NO_ROW) for sequence_id in ids]
        if _NO_ROW in rows:
            rows = [row_of[i] if i in row_of else self._new_row(i) for i in ids]
        return rows

    def _new_row(self, sequence_id: int) -> int:
        if not self._free:
            raise RuntimeError(
                f"Sequence {sequence_id} finds no row: all {self.num_rows} are taken by sequences that "
                "were never released."
            )
        row = self._row_of[sequence_id] = self._free.pop()
        return row

    def cut_table(self, sequence_id: int, num_blocks: int) -> None:
        """Of its block table no more than so many entries are known to the device: what lies behind is sent
        anew."""
        row = self._row_of[sequence_id]
        self.table_lengths[row] = min(self.table_lengths[row], num_blocks)

    def seed_of(self, sequence_id: int) -> int | None:
        """That a sequence's tokens are drawn with; None before its first."""
        row = self._row_of.get(sequence_id)
        return None if row is None else self.sampling.seed_of(row)

    def release(self, sequence_ids: Iterable[int]) -> None:
        """Gives rows back; a sequence that has none is fine."""
        for sequence_id in sequence_ids:
            row = self._row_of.pop(sequence_id, None)
            if row is None:
                continue
            self._free.append(row)
            self.table_lengths[row] = 0
            self.has_token[row] = False
            self.sampling.release(row)
