"""Counts of an engine: what it has done since it began, which its snapshots (`EngineStats`) tell."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.engine.requests.sequence import Sequence


@dataclass(slots=True)
class EngineCounts:
    """
    Attributes:
        num_received: Sequences of all requests, also of those that were refused.
        num_orphaned: Sequences that ended with the API process that had asked for them.
        num_cached_tokens: Of prompts, those that the prefix cache had.
    """

    num_steps: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    num_received: int = 0
    num_orphaned: int = 0

    def admit(self, sequence: Sequence) -> None:
        """It runs for the first time. A prompt counts once, however many completions it gets."""
        if sequence.index == 0:
            self.num_prompt_tokens += len(sequence.prompt_token_ids)
            self.num_cached_tokens += sequence.num_cached_tokens
