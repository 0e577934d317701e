"""Host sampler. Chooses the next token of each row of logits.

A row's random numbers are a pure function of (seed, position, token), the device's (see `race.py`), so the
draw does not depend on what else is in the batch, on preemption or on the order of steps. Greedy rows never
touch any of this.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from octavo.kernels.select import host_long_rows
from octavo.sampling import processors
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.host.draw import MIN_TEMPERATURE, draw, has_filter
from octavo.sampling.host.logprobs import with_logprobs
from octavo.sampling.host.long_rows import draw_long
from octavo.sampling.host.ranking import LONG_ROW
from octavo.sampling.processors.base import HostProcessor
from octavo.sampling.state import SampledToken, SamplingState

_MASK64 = 2**64 - 1
# Rows are taken so many at a time that their scores stay in the core's cache: half a megabyte.
_SCORES_AT_ONCE = 131_072


class Sampler:
    """Samples batches.

    Args:
        seed: Of requests that bring none.
    """

    def __init__(self, seed: int) -> None:
        self._unseeded = np.random.default_rng(seed & _MASK64)
        self._shaped: dict[int, _Shaped] = {}

    def sample(
        self,
        logits: torch.Tensor,
        sequence_ids: Sequence[int],
        states: Sequence[SamplingState],
    ) -> list[SampledToken]:
        """One token for each row.

        Args:
            logits: `[rows, vocab]` on the CPU, in the model's dtype; not modified.
            sequence_ids, states: Of the rows.
        """
        if logits.shape[1] >= LONG_ROW and any(map(_is_plain_draw, states)):
            return self._sample_long(logits, sequence_ids, states)
        return self._sample_in_parts(logits, sequence_ids, states)

    def _sample_long(
        self,
        logits: torch.Tensor,
        sequence_ids: Sequence[int],
        states: Sequence[SamplingState],
    ) -> list[SampledToken]:
        """As `sample`; rows that are drawn from as they are take all threads, where kernels can."""
        kernels = host_long_rows()
        drawn = [row for row, state in enumerate(states) if _is_plain_draw(state)]
        rest = [row for row, state in enumerate(states) if not _is_plain_draw(state)]
        tokens: Ints | None = None
        if kernels is not None and logits.dtype in (torch.float32, torch.bfloat16):
            temperatures = [states[row].params.temperature for row in drawn]
            seeds, positions = self._streams([states[row] for row in drawn])
            picked = logits[drawn] if rest else logits
            tokens = draw_long(kernels, picked, temperatures, seeds, positions)
        if tokens is None:
            return self._sample_in_parts(logits, sequence_ids, states)
        found = dict(zip(drawn, _tokens([sequence_ids[i] for i in drawn], tokens), strict=True))
        if rest:
            ids, others = [sequence_ids[i] for i in rest], [states[i] for i in rest]
            sampled = self._sample_in_parts(logits[rest], ids, others)
            found |= zip(rest, sampled, strict=True)
        return [found[row] for row in range(len(states))]

    def _sample_in_parts(
        self,
        logits: torch.Tensor,
        sequence_ids: Sequence[int],
        states: Sequence[SamplingState],
    ) -> list[SampledToken]:
        results: list[SampledToken] = []
        at_once = max(1, _SCORES_AT_ONCE // logits.shape[1])
        # Of a large vocabulary a part is one row: what threads share out is worked out before, of all.
        shaped = [state for state in states if processors.any_wanted(state.params)]
        if shaped and at_once < len(states):
            processors.prepare(shaped)
        for start in range(0, len(states), at_once):
            part = slice(start, start + at_once)
            results += self._sample(_as_float32(logits[part]), sequence_ids[part], states[part])
        return results

    def forget(self, sequence_ids: Iterable[int]) -> None:
        """Drops what is kept of sequences that ended or were preempted."""
        for sequence_id in sequence_ids:
            self._shaped.pop(sequence_id, None)

    def _sample(
        self, logits: Floats, sequence_ids: Sequence[int], states: Sequence[SamplingState]
    ) -> list[SampledToken]:
        is_plain = all(map(_is_plain_greedy, states))
        scores = logits if is_plain else self._shape(logits, sequence_ids, states)
        tokens, best = _best(scores)
        # What shapes a row may hide a number that is none.
        peaks = best if scores is logits else _best(logits)[1]
        if math.isfinite(best.dot(best)) and math.isfinite(peaks.dot(peaks)):
            return self._pick(logits, scores, tokens, best, sequence_ids, states)
        is_spoilt = ~np.isfinite(peaks)
        logits, scores = _finite(logits), _finite(scores)
        picked = self._pick(logits, scores, *_best(scores), sequence_ids, states)
        return _marked(picked, is_spoilt)

    def _pick(
        self,
        logits: Floats,
        scores: Floats,
        tokens: Ints,
        best: Floats,
        sequence_ids: Sequence[int],
        states: Sequence[SamplingState],
    ) -> list[SampledToken]:
        """From `scores`, which are `logits` as they were shaped, with the best token of each row and its
        score, a finite one."""
        drawn = [row for row, state in enumerate(states) if not state.params.is_greedy]
        if drawn:
            seeds, positions = self._streams([states[row] for row in drawn])
            if len(drawn) == len(states):
                tokens = draw(scores, best, states, seeds, positions)
            else:
                picked = [states[row] for row in drawn]
                tokens[drawn] = draw(scores[drawn], best[drawn], picked, seeds, positions)
        results = _tokens(sequence_ids, tokens)
        reported = [row for row, state in enumerate(states) if state.params.logprobs is not None]
        if reported:
            entries = with_logprobs(
                logits if len(reported) == len(states) else logits[reported],
                [sequence_ids[row] for row in reported],
                tokens[reported],
                [states[row].params.logprobs or 0 for row in reported],
            )
            for row, entry in zip(reported, entries, strict=True):
                results[row] = entry
        return results

    def _shape(
        self, logits: Floats, sequence_ids: Sequence[int], states: Sequence[SamplingState]
    ) -> Floats:
        """A copy where something shapes a row, else `logits` itself."""
        shaped = [row for row, state in enumerate(states) if processors.any_wanted(state.params)]
        if not shaped:
            return logits
        processors.prepare([states[row] for row in shaped])
        scores = logits.copy()
        for row in shaped:
            for processor in self._processors_of(sequence_ids[row], states[row]):
                processor.shape(scores[row])
        return scores

    def _processors_of(self, sequence_id: int, state: SamplingState) -> list[HostProcessor]:
        shaped = self._shaped.get(sequence_id)
        if shaped is None or shaped.state is not state:
            shaped = self._shaped[sequence_id] = _Shaped(state, processors.on_host(state))
        return shaped.processors

    def _streams(self, states: Sequence[SamplingState]) -> tuple[Ints, Ints]:
        """Seeds and positions."""
        streams = np.array([self._stream(state) for state in states], dtype=np.int64)
        seeds, positions = np.ascontiguousarray(streams.T)
        return seeds, positions

    def _stream(self, state: SamplingState) -> tuple[int, int]:
        seed = state.seed
        if seed is None:
            seed = int(self._unseeded.integers(-(2**63), 2**63))
        return seed, len(state.output_token_ids)


def score(
    logits: torch.Tensor,
    sequence_ids: Sequence[int],
    token_ids: Sequence[int],
    counts: Sequence[int],
) -> list[SampledToken]:
    """Of tokens that are known already, with their log-probabilities.

    Args:
        logits: As in `Sampler.sample`.
        sequence_ids, token_ids, counts: Of the rows; `counts` best tokens are told beside each.
    """
    scores, tokens = _as_float32(logits), np.array(token_ids, dtype=np.int64)
    if math.isfinite(scores.max(initial=0.0)) and math.isfinite(scores.min(initial=0.0)):
        return with_logprobs(scores, sequence_ids, tokens, counts)
    is_spoilt = ~np.isfinite(scores.max(axis=-1))
    return _marked(with_logprobs(_finite(scores), sequence_ids, tokens, counts), is_spoilt)


@dataclass(frozen=True, slots=True)
class _Shaped:
    """A sequence that something shapes, and what."""

    state: SamplingState
    processors: list[HostProcessor]


def _is_plain_greedy(state: SamplingState) -> bool:
    params = state.params
    return params.is_greedy and params.logprobs is None and not processors.any_wanted(params)


def _is_plain_draw(state: SamplingState) -> bool:
    """Drawn at a temperature, and nothing else."""
    params = state.params
    return not (
        params.is_greedy
        or has_filter(params)
        or params.logprobs is not None
        or params.temperature < MIN_TEMPERATURE
        or processors.any_wanted(params)
    )


def _tokens(sequence_ids: Sequence[int], tokens: Ints) -> list[SampledToken]:
    return [SampledToken(s, t) for s, t in zip(sequence_ids, tokens.tolist(), strict=True)]


def _as_float32(logits: torch.Tensor) -> Floats:
    """On one thread: waking torch's others costs more than a few rows do, and on a busy machine waiting
    for them may take many milliseconds."""
    if logits.dtype is not torch.bfloat16:
        return logits.numpy().astype(np.float32, copy=False)
    bits = logits.view(torch.int16).numpy().astype(np.int32)
    bits <<= 16
    return bits.view(np.float32)


def _best(scores: Floats) -> tuple[Ints, Floats]:
    """Id (the lowest of equal ones) and value of the largest score of each row; a NaN, where one is."""
    ids = scores.argmax(axis=-1)
    return ids, scores[np.arange(len(scores)), ids]


def _marked(tokens: list[SampledToken], is_spoilt: npt.NDArray[np.bool_]) -> list[SampledToken]:
    return [
        msgspec.structs.replace(token, is_spoilt=True) if spoilt else token
        for token, spoilt in zip(tokens, is_spoilt.tolist(), strict=True)
    ]


def _finite(scores: Floats) -> Floats:
    """A copy in which infinities are the largest numbers, and NaN is the least: a model that overflowed
    spoils its own row alone, whose token is `is_spoilt`."""
    limit = float(np.finfo(np.float32).max)
    finite: Floats = np.nan_to_num(scores, nan=-limit, posinf=limit, neginf=-limit)
    return finite
