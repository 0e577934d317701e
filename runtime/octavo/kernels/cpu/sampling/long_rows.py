"""Draw from a large vocabulary on all threads: the passes over every token that a draw needs, each row in
segments.

What a pass finds is one number a segment, so that nothing as long as the vocabulary is ever written. The few
segments that may hold a row's winner are then asked for in full. Weights and random numbers are those of
`random_bits.divide_by_weights`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part, team_kernel
from octavo.kernels.cpu.compiling.team import run_on_team
from octavo.kernels.cpu.sampling.random_bits import COUNTERS, WORDS, divide_words

SEGMENT = 4096
"""Tokens of a segment; the last one of a row may have fewer."""
_MAXIMA, _MINIMA, _ARRIVALS = 0, 1, 2


@part
def _largest(scores: Any, first: int, end: int) -> Any:
    """Of `scores[first:end]`; NaN where one of them is no finite number."""
    top, spoilt = v.splat(np.float32(-np.inf)), v.splat(np.float32(0))
    zero = v.splat(np.float32(0))
    whole = first + (end - first) // v.LANES * v.LANES
    for c in range(first, whole, v.LANES):
        score = v.load(scores, c)
        top = v.larger(score, top)
        spoilt = v.multiply_add(score, zero, spoilt)
    best, rest = v.max_lanes(top), v.sum_lanes(spoilt)
    for c in range(whole, end):
        score = v.scalar(scores, c)
        best = max(best, score)
        rest += score * np.float32(0)
    return best + rest


@part
def _arrivals(scores: Any, token: Any, stream: Any, temperature: Any, out: Any, out_at: int) -> Any:
    """Uniform numbers times 2^32 over weights, of one segment, into `out[out_at:]`; the least of them.

    `token` is (where the row begins, the segment's first token, its end); `stream` is (seed, position),
    `temperature` (the row's largest score, the temperature's inverse).
    """
    row, first, end = token
    best, inverse = temperature
    tops, inverses = v.splat(best), v.splat(inverse)
    whole = first + (end - first) // v.LANES * v.LANES
    for c in range(first, whole, v.LANES):
        weight = v.multiply(v.subtract(v.load(scores, row + c), tops), inverses)
        v.store(out, out_at + c - first, v.exp(weight))
    padded = first + (end - first + WORDS - 1) // WORDS * WORDS
    for c in range(whole, padded, v.LANES):
        # Nothing may be read behind the last row, and a weight of 0 never arrives.
        count = max(min(end - c, v.LANES), 0)
        place = out_at + c - first
        for lane in range(count):
            out[place + lane] = (v.scalar(scores, row + c + lane) - best) * inverse
        v.store(out, place, v.exp(v.load(out, place)))
        for lane in range(count, v.LANES):
            out[place + lane] = np.float32(0)
    least = v.splat(np.float32(-np.inf))
    for c in range(first, padded, WORDS):
        place = out_at + c - first
        divide_words(out, place, stream[0], stream[1], c // WORDS * COUNTERS)
        for lanes in range(place, place + WORDS, v.LANES):
            least = v.larger(v.subtract(v.splat(np.float32(0)), v.load(out, lanes)), least)
    return -v.max_lanes(least)


@part
def _run(scores: Any, job: Any) -> None:
    """`job` is (a counter, what to find, logits, what is found, pieces, the pieces' segments or 0, tokens,
    and of each row: the largest score, the temperature's inverse, the seed, the position)."""
    mode, count, listed, vocab = job[1], job[4], job[5], job[6]
    segments = (vocab + SEGMENT - 1) // SEGMENT
    found, pieces = v.float32_at(job[3]), v.int64_at(listed)
    bests, inverses = v.float32_at(job[7]), v.float32_at(job[8])
    seeds, positions = v.int64_at(job[9]), v.int64_at(job[10])
    scratch = np.empty(SEGMENT, dtype=np.float32)
    own = v.float32_at(scratch.ctypes.data)
    piece = v.count_up(job, 0)
    while piece < count:
        place = pieces[piece] if listed != 0 else piece
        row, first = place // segments, place % segments * SEGMENT
        end = min(first + SEGMENT, vocab)
        if mode == _MAXIMA:
            found[piece] = _largest(scores, row * vocab + first, row * vocab + end)
        else:
            token = (row * vocab, first, end)
            stream, temperature = (seeds[row], positions[row]), (bests[row], inverses[row])
            if mode == _MINIMA:
                found[piece] = _arrivals(scores, token, stream, temperature, own, 0)
            else:
                at = piece * SEGMENT
                _arrivals(scores, token, stream, temperature, found, at)
                for c in range(end - first, SEGMENT):
                    found[at + c] = np.float32(np.inf)
        piece = v.count_up(job, 0)
    v.keep(scratch)


@team_kernel
def _float32(address: int) -> None:
    job = v.int64_at(address)
    _run(v.float32_at(job[2]), job)


@team_kernel
def _bfloat16(address: int) -> None:
    job = v.int64_at(address)
    _run(v.bfloat16_at(job[2]), job)


KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}


def num_segments(vocab: int) -> int:
    return -(-vocab // SEGMENT)


def segment_maxima(logits: torch.Tensor) -> torch.Tensor:
    """`[rows, segments]` float32 of `logits` `[rows, vocab]`, contiguous, float32 or bfloat16; NaN for a
    segment with a number that is not finite."""
    rows, vocab = logits.shape
    out = torch.empty((rows, num_segments(vocab)), dtype=torch.float32)
    job = (_MAXIMA, logits.data_ptr(), out.data_ptr(), out.numel(), 0, vocab, 0, 0, 0, 0)
    run_on_team(KERNELS[logits.dtype], *job)
    return out


def arrivals(
    logits: torch.Tensor,
    best: torch.Tensor,
    inverse: torch.Tensor,
    seeds: torch.Tensor,
    positions: torch.Tensor,
    segments: torch.Tensor | None = None,
) -> torch.Tensor:
    """Uniform numbers times 2^32 over the tokens' weights: the least of each segment, or all of some.

    Args:
        logits: As in `segment_maxima`; finite.
        best, inverse: `[rows]` float32, the largest logit of each row, and of its temperature.
        seeds, positions: `[rows]` int64.
        segments: `[count]` int64, each a row times `num_segments` plus a segment of it; None: all of them.

    Returns:
        `[rows, num_segments]` float32, or `[count, SEGMENT]`, infinity behind the last token.
    """
    rows, vocab = logits.shape
    if segments is None:
        out = torch.empty((rows, num_segments(vocab)), dtype=torch.float32)
        mode, count, listed = _MINIMA, out.numel(), 0
    else:
        out = torch.empty((len(segments), SEGMENT), dtype=torch.float32)
        mode, count, listed = _ARRIVALS, len(segments), segments.data_ptr()
    run_on_team(
        KERNELS[logits.dtype],
        mode,
        logits.data_ptr(),
        out.data_ptr(),
        count,
        listed,
        vocab,
        *(column.data_ptr() for column in (best, inverse, seeds, positions)),
    )
    return out
