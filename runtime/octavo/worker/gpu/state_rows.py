"""Which row of the device's state belongs to which sequence, and what the device knows of it already.

The host's half of the state: block tables and last tokens lie on the device (`SequenceState`), sampling
parameters lie here, as arrays, so that a step takes those of its rows with one indexing operation.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from octavo.sampling.state import SamplingState

_MASK64 = 2**64 - 1
_NO_ROW = -1
NO_COUNTS = -1
"""Row of the token counts of a sequence without penalties."""


class StateRows:
    """Rows `0 … num_rows - 1`. No device memory is touched.

    Args:
        num_rows: At least the number of sequences that are alive at once.
        seed: Of the sequences that bring none.

    Attributes, all `[num_rows]` and indexed by row:
        table_lengths: int64, entries of the block table that were sent.
        has_token: Whether a token was sampled, so that a pending one can be referred to.
        temperature, top_p, min_p, presence, frequency, repetition: float32.
        top_k: int32.
        seeds: int64.
        count_rows: int32, row in the token counts, or `NO_COUNTS`.
        prompt_lengths: int64.
        wants_logprobs, is_pooled: bool.
    """

    def __init__(self, num_rows: int, seed: int) -> None:
        self.num_rows = num_rows
        self._row_of: dict[int, int] = {}
        self._free = list(range(num_rows - 1, -1, -1))
        self._has_params = np.zeros(num_rows, dtype=bool)
        self._random = np.random.default_rng(seed & _MASK64)
        self._free_count_rows: list[int] = []
        self._num_count_rows = 0
        self.table_lengths = np.zeros(num_rows, dtype=np.int64)
        self.has_token = np.zeros(num_rows, dtype=bool)
        self._floats = np.zeros((6, num_rows), dtype=np.float32)
        self.temperature, self.top_p, self.min_p = self._floats[:3]
        self.presence, self.frequency, self.repetition = self._floats[3:]
        self.top_k = np.zeros(num_rows, dtype=np.int32)
        self.seeds = np.zeros(num_rows, dtype=np.int64)
        self.count_rows = np.full(num_rows, NO_COUNTS, dtype=np.int32)
        self.prompt_lengths = np.zeros(num_rows, dtype=np.int64)
        self.wants_logprobs = np.zeros(num_rows, dtype=bool)
        self.is_pooled = np.zeros(num_rows, dtype=bool)

    @property
    def num_count_rows(self) -> int:
        """Rows of token counts that are needed."""
        return self._num_count_rows

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

    def release(self, sequence_ids: Iterable[int]) -> None:
        """Gives rows back; a sequence that has none is fine."""
        for sequence_id in sequence_ids:
            row = self._row_of.pop(sequence_id, None)
            if row is None:
                continue
            self._free.append(row)
            self.table_lengths[row] = 0
            self.has_token[row] = False
            self._has_params[row] = False
            if self.count_rows[row] != NO_COUNTS:
                self._free_count_rows.append(int(self.count_rows[row]))
                self.count_rows[row] = NO_COUNTS

    def learn(self, rows: np.ndarray, states: list[SamplingState]) -> list[tuple[int, int]]:
        """Takes in the parameters of rows that are sampled for the first time.

        Returns pairs of index in `states` and row of the token counts, for those with penalties: their
        counts must be set before the row is sampled.
        """
        started = []
        for index in np.flatnonzero(~self._has_params[rows]):
            row, state = rows[index], states[index]
            params = state.params
            self._has_params[row] = True
            self._floats[:, row] = (
                0.0 if params.is_greedy else params.temperature,
                params.top_p,
                params.min_p,
                params.presence_penalty,
                params.frequency_penalty,
                params.repetition_penalty,
            )
            self.top_k[row] = max(params.top_k, 0)
            self.prompt_lengths[row] = len(state.prompt_token_ids)
            self.wants_logprobs[row] = params.logprobs is not None
            self.is_pooled[row] = state.is_pooled
            seed = state.seed
            self.seeds[row] = self._random.integers(-(2**63), 2**63) if seed is None else seed
            if (self._floats[3:, row] != (0.0, 0.0, 1.0)).any():
                self.count_rows[row] = self._new_count_row()
                started.append((int(index), int(self.count_rows[row])))
        return started

    def _new_count_row(self) -> int:
        if self._free_count_rows:
            return self._free_count_rows.pop()
        self._num_count_rows += 1
        return self._num_count_rows - 1
