"""Log-probabilities of a sampled token and of the best ones, for the rows that asked for them.

They are of the model's own distribution: before penalties, temperature and filters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.host.ranking import best_tokens
from octavo.sampling.state import SampledToken


def with_logprobs(
    scores: Floats, sequence_ids: Sequence[int], token_ids: Ints, counts: Sequence[int]
) -> list[SampledToken]:
    """Each row's token with its own entry and those of its best ones, the lower id first among equals.

    A token's rank is one more than the number of better ones.

    Args:
        scores: `[rows, vocab]`, the logits that the model gave; no NaN and no +inf.
        counts: How many best tokens each row reports.
    """
    best = scores.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # to -inf, whose weight is 0
        totals = np.exp(scores - best).sum(axis=-1, dtype=np.float32)
    normalisers = best[:, 0].astype(np.float64) + np.log(totals)
    own = scores[np.arange(len(scores)), token_ids]
    tops = best_tokens(scores, counts)
    results = []
    for place, token_id in enumerate(token_ids.tolist()):
        row = scores[place]
        rank = int(np.count_nonzero(row > own[place])) + 1
        ids = [token_id, *tops[place].tolist()]
        logprobs = (row[ids] - normalisers[place]).tolist()
        ranks = [rank, *range(1, len(ids))]
        results.append(SampledToken(sequence_ids[place], token_id, ids, logprobs, ranks))
    return results
