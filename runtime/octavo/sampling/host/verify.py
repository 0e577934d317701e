"""Verification of drafts: which guesses of a sequence's next tokens come true.

At each position the token is drawn as it would be without drafts, by the same race of (seed, position, token)
over scores that are shaped by all that stands before it. A draft comes true when it is the token that was
drawn; the first that is not ends the row, and what was drawn in its place is its last token. So the answer
does not depend on who guessed what: it is the one that the model gives without speculation, for every seed.

Of a draft that is proposed for certain this is the rejection sampling of Leviathan et al. (2023), "Fast
Inference from Transformers via Speculative Decoding": it is accepted with the probability p(x) that the
model gives it, and otherwise a token follows p without x, scaled to 1. A proposer that draws by the same
race agrees with the model more often than one that draws by itself, without any change here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.sampling import processors
from octavo.sampling.host.sampler import Sampler
from octavo.sampling.state import SampledToken, SamplingState


def verify(
    sampler: Sampler,
    logits: torch.Tensor,
    sequence_ids: Sequence[int],
    states: Sequence[SamplingState],
    drafts: Sequence[Sequence[int]],
) -> list[SampledToken]:
    """The tokens of each sequence, one sequence after another: at least one, at most one more than its
    drafts, and none behind a token that ends it.

    Args:
        logits: `[rows, vocab]` as in `Sampler.sample`; each sequence has one row, and one more per draft.
        sequence_ids, states, drafts: Of the sequences. The output of a state with drafts is a list; it is
            as it was when this returns.
    """
    rows = [_Rows(*each) for each in zip(sequence_ids, states, drafts, strict=True)]
    first = 0
    for each in rows:
        each.first = first
        first += 1 + len(each.drafts)
    _all_at_once(sampler, logits, [each for each in rows if each.is_independent])
    _one_by_one(sampler, logits, [each for each in rows if not each.is_independent])
    return [token for each in rows for token in each.tokens]


class _Rows:
    """Of one sequence, and what was drawn from them."""

    __slots__ = ("drafts", "first", "sequence_id", "state", "tokens")

    def __init__(self, sequence_id: int, state: SamplingState, drafts: Sequence[int]) -> None:
        self.sequence_id = sequence_id
        self.state = state
        self.drafts = drafts
        self.first = 0
        self.tokens: list[SampledToken] = []

    @property
    def is_independent(self) -> bool:
        """No draw depends on what was drawn before, but for the logits."""
        params = self.state.params
        return params.is_greedy and not processors.any_wanted(params)

    def take(self, token: SampledToken) -> bool:
        """Whether one more is wanted."""
        place = len(self.tokens)
        self.tokens.append(token)
        return (
            place < len(self.drafts)
            and not token.is_spoilt
            and token.token_id == self.drafts[place]
            and token.token_id not in self.state.end_token_ids
        )


def _all_at_once(sampler: Sampler, logits: torch.Tensor, rows: Sequence[_Rows]) -> None:
    if not rows:
        return
    owners = [each for each in rows for _ in range(1 + len(each.drafts))]
    places = [each.first + i for each in rows for i in range(1 + len(each.drafts))]
    drawn = iter(
        sampler.sample(
            logits if len(places) == len(logits) else logits[places],
            [each.sequence_id for each in owners],
            [each.state for each in owners],
        )
    )
    for each in rows:
        found = [next(drawn) for _ in range(1 + len(each.drafts))]
        for token in found:
            if not each.take(token):
                break


def _one_by_one(sampler: Sampler, logits: torch.Tensor, rows: Sequence[_Rows]) -> None:
    """All sequences' first tokens, then the second ones of those whose first draft came true, and so on.

    What shapes scores, and the place in the random stream, look at a sequence's output, which holds the
    drafts that came true meanwhile.
    """
    going, lengths = list(rows), [len(each.state.output_token_ids) for each in rows]
    try:
        while going:
            drawn = sampler.sample(
                logits[[each.first + len(each.tokens) for each in going]],
                [each.sequence_id for each in going],
                [each.state for each in going],
            )
            accepted = [each for each, token in zip(going, drawn, strict=True) if each.take(token)]
            for each in accepted:
                _live_output(each.state).append(each.tokens[-1].token_id)
            going = accepted
    finally:
        for each, length in zip(rows, lengths, strict=True):
            if each.drafts:
                del _live_output(each.state)[length:]


def _live_output(state: SamplingState) -> list[int]:
    output = state.output_token_ids
    if not isinstance(output, list):
        raise TypeError("The output of a sequence with drafts must be its live list.")
    return output
