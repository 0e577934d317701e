"""Prompt scores on a device: the log-probabilities of a prompt's own tokens, a slice of its rows at a time.

All rows of a step at once would be as many scores as it has tokens times the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import torch

from octavo.kernels.packed_step import PackedView, Packer
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference.sampling.logprobs import TopLogprobs
from octavo.sampling.state import SampledToken
from octavo.worker.batch import ScheduledSequence


@dataclass(frozen=True, slots=True)
class PackedScores:
    """The tokens to be scored, in the batch's order, one of each for a row.

    Args:
        rows: Where `[scored]` int64 lie: the row of the step that scores each token.
        targets: Where `[scored]` int64 lie: the tokens.
        sequence_ids, token_ids: The tokens' own.
        num_best: How many of the best tokens are told beside each.
    """

    rows: int
    targets: int
    sequence_ids: list[int]
    token_ids: list[int]
    num_best: list[int]


def pack_scores(
    entries: Sequence[ScheduledSequence], first_rows: np.ndarray, packer: Packer
) -> PackedScores | None:
    """None where no entry wants them. `first_rows[i]` is the row of entry i's first token."""
    chosen = [(i, entry, entry.scored) for i, entry in enumerate(entries) if entry.scored]
    if not chosen:
        return None
    counts = [len(scored.targets) for _, _, scored in chosen]
    token_ids = [token_id for _, _, scored in chosen for token_id in scored.targets]
    rows = [
        np.arange(count) + first_rows[i] for (i, _, _), count in zip(chosen, counts, strict=True)
    ]
    return PackedScores(
        rows=packer.put(np.concatenate(rows).astype(np.int64)),
        targets=packer.put(np.array(token_ids, dtype=np.int64)),
        sequence_ids=_each([entry.sequence_id for _, entry, _ in chosen], counts),
        token_ids=token_ids,
        num_best=_each([scored.num_best for _, _, scored in chosen], counts),
    )


def _each(values: Sequence[int], counts: Sequence[int]) -> list[int]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def best_of_slices(
    kernels: DeviceKernels,
    slices: Iterator[tuple[slice, torch.Tensor]],
    scores: PackedScores,
    view: PackedView,
    vocab_size: int,
) -> TopLogprobs:
    """Queues what is told of the rows whose scores `[rows, vocab]` come a slice at a time, in order."""
    targets = view.int64(scores.targets, len(scores.token_ids))
    most = min(max(scores.num_best), vocab_size)
    parts = [kernels.top_logprobs(logits, targets[part], most) for part, logits in slices]
    return TopLogprobs(
        own_logprob=torch.cat([part.own_logprob for part in parts]),
        own_rank=torch.cat([part.own_rank for part in parts]),
        top_ids=torch.cat([part.top_ids for part in parts]),
        top_logprobs=torch.cat([part.top_logprobs for part in parts]),
    )


def told_scores(scores: PackedScores, copy: TopLogprobs) -> list[SampledToken]:
    """What came back to the host."""
    return [
        with_entries(sequence_id, token_id, entry, count)
        for sequence_id, token_id, entry, count in zip(
            scores.sequence_ids, scores.token_ids, entries_of(copy), scores.num_best, strict=True
        )
    ]


Entry = tuple[float, int, list[int], list[float]]
"""Log-probability and rank of a row's own token; ids and log-probabilities of the best ones."""


def entries_of(copy: TopLogprobs) -> list[Entry]:
    """Of each row, from tensors in host memory."""
    columns = (copy.own_logprob, copy.own_rank, copy.top_ids, copy.top_logprobs)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def with_entries(sequence_id: int, token_id: int, entry: Entry, count: int) -> SampledToken:
    """A token that is told with at most `count` of the best ones. Of scores that are no numbers, or have no
    largest one, its own log-probability is no number either, or that of the best."""
    own, rank, ids, values = entry
    count = min(count, len(ids))
    return SampledToken(
        sequence_id,
        token_id,
        [token_id, *ids[:count]],
        [own, *values[:count]],
        [rank, *range(1, count + 1)],
        is_spoilt=isnan(own) or (bool(values) and isnan(values[0])),
    )
