"""Penalties for tokens that a sequence holds already: presence, frequency and repetition.

What a sequence holds is counted as it grows: counting a long prompt anew for every token would cost more
than the model's arithmetic. The device counts for itself, so that no step waits for a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from octavo.kernels.aligned_rows import padded_width
from octavo.kernels.packed_step import PackedView, Packer
from octavo.kernels.reference.sampling.penalties import IN_PROMPT, MAX_COUNT
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
    PackedShape,
)
from octavo.sampling.processors.guessed_counts import (
    NO_COUNTS,
    GuessedCounts,
    pack_guessed,
)
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams

_OFF = (0.0, 0.0, 1.0)
# Scores are float32, in which less than this is zero: nothing could be divided by it.
_LEAST_REPETITION = float(np.finfo(np.float32).tiny)


class Penalties(LogitsProcessor):
    """Presence and frequency look at the output (OpenAI's definition), repetition at prompt and output
    (Keskar et al., 2019)."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return (
            params.presence_penalty != 0.0
            or params.frequency_penalty != 0.0
            or params.repetition_penalty != 1.0
        )

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        return (msgspec.structs.replace(params, presence_penalty=0.1, repetition_penalty=1.1),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        return TokenCounts(state)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        return DevicePenalties(room)


class TokenCounts(HostProcessor):
    """How often one sequence's output holds each token, and which tokens its prompt holds."""

    def __init__(self, state: SamplingState) -> None:
        self._state = state
        self._in_prompt = np.unique(np.array(state.prompt_token_ids, dtype=np.int64))
        self._places: dict[int, int] = {}
        self._ids = np.empty(64, dtype=np.int64)
        self._counts = np.zeros(64, dtype=np.int64)
        self._num_counted = 0

    def shape(self, scores: Floats) -> None:
        """First repetition, then presence and frequency."""
        ids, counts = self._count(self._state.output_token_ids)
        params = self._state.params
        penalty = max(params.repetition_penalty, _LEAST_REPETITION)
        if penalty != 1.0:
            seen = np.concatenate([self._in_prompt, ids])
            values = scores[seen]
            with np.errstate(over="ignore"):  # to infinity, by such a one
                scores[seen] = np.where(values > 0, values / penalty, values * penalty)
        if len(ids):
            scores[ids] -= params.presence_penalty + params.frequency_penalty * counts

    def _count(self, output: Sequence[int]) -> tuple[Ints, Ints]:
        """The distinct tokens of `output`, and how often each occurs."""
        for token in output[self._num_counted :]:
            place = self._places.setdefault(token, len(self._places))
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token
            self._counts[place] += 1
        self._num_counted = len(output)
        return self._ids[: len(self._places)], self._counts[: len(self._places)]


class DevicePenalties(DeviceProcessor):
    """Holds the token counts of sequences with penalties: `[rows, vocab]` int16, made when needed."""

    def __init__(self, room: DeviceRoom) -> None:
        self._room = room
        self._penalties = np.tile(np.array([_OFF], dtype=np.float32).T, room.num_rows)
        self._count_rows = np.full(room.num_rows, NO_COUNTS, dtype=np.int32)
        self._free_count_rows: list[int] = []
        self._num_count_rows = 0
        self._begun: dict[int, SamplingState] = {}  # by row of the counts, until a step sets them
        self._counts = torch.zeros(
            (0, padded_width(room.vocab_size)), dtype=torch.int16, device=room.device
        )

    def begin(self, row: int, state: SamplingState) -> None:
        params = state.params
        self._penalties[:, row] = (
            params.presence_penalty,
            params.frequency_penalty,
            max(params.repetition_penalty, _LEAST_REPETITION),
        )
        count_row = self._count_rows[row] = self._new_count_row()
        self._begun[int(count_row)] = state

    def release(self, row: int) -> None:
        count_row = int(self._count_rows[row])
        self._free_count_rows.append(count_row)
        self._begun.pop(count_row, None)
        self._penalties[:, row] = _OFF
        self._count_rows[row] = NO_COUNTS

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedPenalties | None:
        count_rows = self._count_rows[rows]
        if (count_rows == NO_COUNTS).all():
            return None
        begun, self._begun = self._begun, {}
        lent: list[int] = []
        count_rows, guessed = pack_guessed(count_rows, states, lambda: self._lend(lent), packer)
        self._free_count_rows += (
            lent  # a step that comes later may have them: it runs behind this one
        )
        presence, frequency, repetition = self._penalties
        return PackedPenalties(
            device=self,
            presence=packer.put(presence[rows]),
            frequency=packer.put(frequency[rows]),
            repetition=packer.put(repetition[rows]),
            count_rows=packer.put(count_rows),
            begun=begun,
            guessed=guessed,
        )

    def _lend(self, lent: list[int]) -> int:
        lent.append(self._new_count_row())
        return lent[-1]

    def _new_count_row(self) -> int:
        if self._free_count_rows:
            return self._free_count_rows.pop()
        self._num_count_rows += 1
        return self._num_count_rows - 1

    def penalise(self, scores: torch.Tensor, packed: PackedPenalties, view: PackedView) -> None:
        self._set_counts(packed.begun)
        if packed.guessed is not None:
            packed.guessed.prepare(self._counts, self._room.kernels, view)
        samples = scores.shape[0]
        self._room.kernels.apply_penalties(
            scores,
            self._counts[:, : self._room.vocab_size],
            view.float32(packed.presence, samples),
            view.float32(packed.frequency, samples),
            view.float32(packed.repetition, samples),
            view.int32(packed.count_rows, samples),
        )

    def count(self, tokens: torch.Tensor, packed: PackedPenalties, view: PackedView) -> None:
        kernels = self._room.kernels
        if packed.guessed is not None:
            packed.guessed.count(tokens, self._counts, kernels, view)
            return
        kernels.count_tokens(self._counts, view.int32(packed.count_rows, tokens.shape[0]), tokens)

    def _set_counts(self, begun: dict[int, SamplingState]) -> None:
        if self._counts.shape[0] < self._num_count_rows:
            grown = self._counts.new_zeros((2 * self._num_count_rows, self._counts.shape[1]))
            grown[: self._counts.shape[0]] = self._counts
            self._counts = grown
        for row, state in begun.items():
            counts = torch.from_numpy(_initial_counts(state, self._room.vocab_size))
            if self._room.device.type == "cuda":
                counts = counts.pin_memory()
            self._counts[row, : self._room.vocab_size].copy_(counts, non_blocking=True)


@dataclass(frozen=True, slots=True)
class PackedPenalties(PackedShape):
    """Where the penalties of the samples lie, each `[samples]`.

    Args:
        presence, frequency, repetition: float32.
        count_rows: int32, rows of the token counts; `NO_COUNTS` for samples without penalties.
        begun: Rows of the token counts that are to be set, each with its sequence.
        guessed: Where samples have guesses before them.
    """

    device: DevicePenalties
    presence: int
    frequency: int
    repetition: int
    count_rows: int
    begun: dict[int, SamplingState]
    guessed: GuessedCounts | None = None

    def shape(self, scores: torch.Tensor, view: PackedView) -> None:
        self.device.penalise(scores, self, view)

    def take(self, tokens: torch.Tensor, view: PackedView) -> None:
        self.device.count(tokens, self, view)


def _initial_counts(state: SamplingState, vocab_size: int) -> np.ndarray:
    """`[vocab]` int16: how often the output holds each token; the sign bit marks the prompt's."""
    output = np.asarray(state.output_token_ids, dtype=np.int64)
    counts = np.bincount(output, minlength=vocab_size).clip(max=MAX_COUNT).astype(np.int16)
    counts[np.asarray(state.prompt_token_ids, dtype=np.int64)] |= np.int16(IN_PROMPT)
    return counts
