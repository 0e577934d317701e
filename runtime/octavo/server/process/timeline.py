"""Timeline of a sequence: when it came, began, made its first and its latest token. What latencies are made
of, whichever names they get."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Timeline:
    """Times in seconds as `time.time()` has them; None has not happened yet.

    Args:
        num_prompt_tokens, num_cached_tokens: Of the prompt, and of it in the prefix cache.
        n, max_tokens: As its request has them.
    """

    arrival: float
    num_prompt_tokens: int
    n: int = 1
    max_tokens: int | None = None
    num_cached_tokens: int = 0
    num_tokens: int = 0
    scheduled_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None

    @property
    def queue_seconds(self) -> float | None:
        """From the arrival to the first step."""
        return _between(self.arrival, self.scheduled_at)

    @property
    def prefill_seconds(self) -> float | None:
        """From the first step to the first token."""
        return _between(self.scheduled_at, self.first_token_at)

    @property
    def decode_seconds(self) -> float | None:
        """From the first token to the last."""
        return _between(self.first_token_at, self.last_token_at)

    @property
    def inference_seconds(self) -> float | None:
        """From the first step to the last token."""
        return _between(self.scheduled_at, self.last_token_at)

    @property
    def seconds_per_token(self) -> float | None:
        """Of the tokens after the first; None where there are none."""
        seconds = self.decode_seconds
        return None if seconds is None or self.num_tokens < 2 else seconds / (self.num_tokens - 1)


def _between(begin: float | None, end: float | None) -> float | None:
    """Never negative: the two may be of two processes."""
    return None if begin is None or end is None else max(0.0, end - begin)
