"""Verification of drafts on a device: which guesses of a sequence's next tokens come true.

What `octavo.sampling.host.verify` says holds here: at each position the token is drawn as it would be without
drafts, by the same random numbers, and a draft comes true when it is that token. All positions are drawn at
once, each as if the drafts before it had come true: where one has not, what was drawn behind it is dropped,
so nothing is lost but that work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from octavo.kernels.packed_step import PackedView, Packer
from octavo.sampling.state import SampledToken, SamplingState

_NO_DRAFT = -1


@dataclass(frozen=True, slots=True)
class PackedDrafts:
    """Of a step in which some sequence has drafts.

    Args:
        of_sequences: Of each sequence that is sampled, in the batch's order; it has one sample more.
        following: Where `[samples]` int64 lie: the draft that each sample's token is to be compared with.
        first: Where `[samples]` int64 lie: the first sample of each one's sequence.
    """

    of_sequences: list[Sequence[int]]
    following: int
    first: int

    @classmethod
    def pack(cls, of_sequences: list[Sequence[int]], packer: Packer) -> PackedDrafts | None:
        """None where there are none."""
        if not any(of_sequences):
            return None
        counts = [1 + len(drafts) for drafts in of_sequences]
        following = [token for drafts in of_sequences for token in (*drafts, _NO_DRAFT)]
        starts = np.cumsum([0, *counts[:-1]])
        return cls(
            of_sequences,
            packer.put(np.array(following, dtype=np.int64)),
            packer.put(np.repeat(starts, counts).astype(np.int64)),
        )

    def taken(self, tokens: torch.Tensor, view: PackedView) -> torch.Tensor:
        """`tokens` `[samples]`, below zero behind a draft that did not come true."""
        samples = tokens.shape[0]
        is_wrong = (tokens != view.int64(self.following, samples)).long()
        wrong_before = is_wrong.cumsum(0) - is_wrong
        is_taken = wrong_before == wrong_before[view.int64(self.first, samples)]
        return torch.where(is_taken, tokens, _NO_DRAFT)


def accepted(
    tokens: Sequence[SampledToken],
    states: Sequence[SamplingState],
    of_sequences: Sequence[Sequence[int]],
) -> list[SampledToken]:
    """The tokens of each sequence, one sequence after another: at least one, at most one more than its
    drafts, and none behind a token that ends it.

    Args:
        tokens, states: Of the samples.
        of_sequences: See `PackedDrafts`.
    """
    found: list[SampledToken] = []
    first = 0
    for drafts in of_sequences:
        ends = states[first].end_token_ids
        found.append(tokens[first])
        for place, draft in enumerate(drafts, first):
            drawn = tokens[place]
            if drawn.is_spoilt or drawn.token_id != draft or draft in ends:
                break
            found.append(tokens[place + 1])
        first += 1 + len(drafts)
    return found
