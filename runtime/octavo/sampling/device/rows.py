"""Sampling parameters by row of the sequences' state, and their share of a packed step.

They lie in the host's memory as arrays, so that a step takes those of its rows with one indexing operation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.kernels.packed_step import Packer
from octavo.sampling import processors
from octavo.sampling.arrays import Ints
from octavo.sampling.device.samples import DrawSections, Samples
from octavo.sampling.device.verify import PackedDrafts
from octavo.sampling.processors.base import DeviceProcessor, DeviceRoom, PackedShape
from octavo.sampling.state import SamplingState

_MASK64 = 2**64 - 1


class SamplingRows:
    """Of the sequences that have a row among `room.num_rows`.

    Args:
        seed: Of the sequences that bring none.

    Attributes:
        waits_for_token: `[num_rows]` bool, whether the row is not to be sampled behind a pending token.
    """

    def __init__(self, room: DeviceRoom, seed: int) -> None:
        num_rows = room.num_rows
        self._processors = processors.on_device(room)
        self._wanted: dict[int, list[DeviceProcessor]] = {}
        self._is_known = np.zeros(num_rows, dtype=bool)
        self._random = np.random.default_rng(seed & _MASK64)
        self._floats = np.zeros((3, num_rows), dtype=np.float32)
        self._temperature, self._top_p, self._min_p = self._floats
        self._top_k = np.zeros(num_rows, dtype=np.int32)
        self._seeds = np.zeros(num_rows, dtype=np.int64)
        self._prompt_lengths = np.zeros(num_rows, dtype=np.int64)
        self._wants_logprobs = np.zeros(num_rows, dtype=bool)
        self._is_pooled = np.zeros(num_rows, dtype=bool)
        self.waits_for_token = np.zeros(num_rows, dtype=bool)

    def seed_of(self, row: int) -> int:
        """Of a row that was sampled, its sequence's own or the one that it got."""
        return int(self._seeds[row])

    def release(self, row: int) -> None:
        """The row's sequence is gone, or was never sampled."""
        self._is_known[row] = False
        self.waits_for_token[row] = False
        for processor in self._wanted.pop(row, ()):
            processor.release(row)

    def pack(
        self,
        rows: Ints,
        sequence_ids: list[int],
        states: list[SamplingState],
        ends: Ints,
        packer: Packer,
        drafts: PackedDrafts | None = None,
    ) -> Samples:
        """Packs what is sampled in a step.

        Args:
            rows, sequence_ids, states: `[samples]`; of a sequence with drafts several, in order.
            ends: `[samples]`, position behind the last token that each sample follows.
            drafts: None where no sequence has any.
        """
        self._learn(rows, states)
        draw = self._pack_draw(rows, ends, packer)
        shapes = [processor.pack(rows, states, packer) for _, processor in self._processors]
        with_logprobs = np.flatnonzero(self._wants_logprobs[rows])
        pooled = np.flatnonzero(self._is_pooled[rows])
        return Samples(
            rows=rows,
            sequence_ids=sequence_ids,
            states=states,
            shapes=[shape for shape in shapes if shape is not None],
            draw=draw,
            with_logprobs=with_logprobs.tolist(),
            logprob_rows=packer.put(with_logprobs),
            pooled=pooled.tolist(),
            pooled_rows=packer.put(pooled),
            drafts=drafts,
        )

    def pack_late(self, samples: Samples, packer: Packer) -> list[PackedShape]:
        """Packs what of a step was not worked out before the model's part of it was queued."""
        found = [
            processor.pack_late(samples.rows, samples.states, packer)
            for _, processor in self._processors
        ]
        return [shape for shape in found if shape is not None]

    def _learn(self, rows: Ints, states: Sequence[SamplingState]) -> None:
        """Takes in the parameters of rows that are sampled for the first time."""
        for index in np.flatnonzero(~self._is_known[rows]).tolist():
            row, state = int(rows[index]), states[index]
            if self._is_known[row]:
                continue  # by an earlier sample of the same sequence
            params = state.params
            self._is_known[row] = True
            self._floats[:, row] = (
                0.0 if params.is_greedy else params.temperature,
                params.top_p,
                params.min_p,
            )
            self._top_k[row] = max(params.top_k, 0)
            self._prompt_lengths[row] = len(state.prompt_token_ids)
            self._wants_logprobs[row] = params.logprobs is not None
            self._is_pooled[row] = state.is_pooled
            seed = state.seed
            self._seeds[row] = self._random.integers(-(2**63), 2**63) if seed is None else seed
            self.waits_for_token[row] = processors.waits_for_token(params)
            for processor, on_device in self._processors:
                if processor.is_wanted(params):
                    self._wanted.setdefault(row, []).append(on_device)
                    on_device.begin(row, state)

    def _pack_draw(self, rows: Ints, ends: Ints, packer: Packer) -> DrawSections | None:
        temperature = self._temperature[rows]
        if not temperature.any():
            return None
        # The token's index in the output, from what is run and not from what the host has seen: a pending
        # token counts.
        positions = ends - self._prompt_lengths[rows]
        top_k, top_p, min_p = (a[rows] for a in (self._top_k, self._top_p, self._min_p))
        return DrawSections(
            temperature=packer.put(temperature),
            top_k=packer.put(top_k),
            top_p=packer.put(top_p),
            min_p=packer.put(min_p),
            seed=packer.put(self._seeds[rows]),
            position=packer.put(positions),
            has_filters=bool(top_k.any() or (top_p < 1.0).any() or min_p.any()),
        )
