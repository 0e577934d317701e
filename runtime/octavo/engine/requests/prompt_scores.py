"""Prompt scores. Log-probabilities of a prompt's own tokens, collected as chunks of it are computed.

The last chunk's come with the first token of output, so that all of them are told at once, whatever was
preempted and computed again meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from octavo.sampling.state import SampledToken
from octavo.worker.batch import ScoredRows


@dataclass(slots=True)
class PromptScores:
    """Of one sequence that computes its prompt.

    Args:
        prompt_token_ids: Every token but the first is scored, by the row before it.
        num_best: Best tokens that are told beside each.
        is_spoilt: Some of them mean nothing; see `SampledToken`.
    """

    prompt_token_ids: Sequence[int]
    num_best: int
    num_found: int = 0
    is_spoilt: bool = False
    _found: list[SampledToken] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Nothing of the prompt has to be computed for it any more."""
        return self.num_found >= len(self.prompt_token_ids) - 1

    def rows_of(self, start: int, stop: int) -> ScoredRows | None:
        """What is to be scored of the chunk from token `start` up to `stop`."""
        if self.is_complete:
            return None
        targets = self.prompt_token_ids[start + 1 : stop + 1]
        return ScoredRows(targets, self.num_best) if targets else None

    def take(self, start: int, rows: Sequence[SampledToken]) -> None:
        """Adds a chunk's; after a preemption chunks come again, whose scores are known."""
        new = rows[self.num_found - start :]
        self.is_spoilt = self.is_spoilt or any(row.is_spoilt for row in new)
        self._found += new
        self.num_found += len(new)

    def release(self) -> list[SampledToken]:
        """All that were found, in order; they are not kept."""
        found, self._found = self._found, []
        return found
