"""Log-probabilities of the model's own distribution: of the sampled token, its rank, and the best ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TopLogprobs:
    """Of `rows` sampled tokens.

    Args:
        own_logprob: `[rows]` float32, of the sampled token.
        own_rank: `[rows]` int64, 1 for the best; tokens with equal logits share a rank.
        top_ids: `[rows, k]` int64, best first.
        top_logprobs: `[rows, k]` float32.
    """

    own_logprob: torch.Tensor
    own_rank: torch.Tensor
    top_ids: torch.Tensor
    top_logprobs: torch.Tensor


def top_logprobs(logits: torch.Tensor, token_ids: torch.Tensor, k: int) -> TopLogprobs:
    """Log-probabilities of `token_ids` `[rows]` and of the k best under `logits` `[rows, vocab]`.

    Computed in float32 from any float dtype; k above the vocabulary's size counts as that.
    """
    scores = logits.float()
    own = scores.gather(1, token_ids.long()[:, None])
    normaliser = torch.logsumexp(scores, dim=-1, keepdim=True)
    best, ids = torch.topk(logits, min(k, logits.shape[1]), dim=-1)
    return TopLogprobs(
        own_logprob=(own - normaliser)[:, 0],
        own_rank=(scores > own).sum(dim=-1) + 1,
        top_ids=ids,
        top_logprobs=best.float() - normaliser,
    )
