"""Mixed load: streams that decode, and long prompts that arrive meanwhile at set times.

The times are the clock's, not the server's: each side gets the same prompts in the same seconds, however far
it has come. What a side did with them is `Observed`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

STEADY_TOKENS = 3
"""That each stream has made before the window begins."""


@dataclass(frozen=True, slots=True)
class MixedLoad:
    """Args:
    streams: That decode all the time.
    stream_tokens: Of the prompt of each.
    longest: Output tokens that a stream may make: more than the window has time for.
    prompts: That arrive, each for one output token.
    prompt_tokens: Of each of those.
    period: Seconds between two arrivals, the first of which begins the window; it ends a period after the
        last one, or with the last one's token.
    """

    streams: int = 16
    stream_tokens: int = 64
    longest: int = 1024
    prompts: int = 2
    prompt_tokens: int = 2048
    period: float = 8.0

    @property
    def max_model_len(self) -> int:
        return max(self.stream_tokens + self.longest, self.prompt_tokens + 1)

    def texts(self) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of the streams' prompts and of those that arrive; no two begin alike."""
        ids = _ids()
        return (
            [[next(ids) for _ in range(self.stream_tokens)] for _ in range(self.streams)],
            [[next(ids) for _ in range(self.prompt_tokens)] for _ in range(self.prompts)],
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """What a side did within one window. All times are seconds from its begin; before it they are negative.

    Args:
        arrivals: Of each stream, when tokens came and how many it had made then.
        first_tokens: Of each prompt, from its arrival on.
        seconds: The window's length.
        num_ended: Streams that made all that they may before it was over, so that the others had it easier.
    """

    arrivals: list[list[tuple[float, int]]]
    first_tokens: list[float]
    seconds: float
    num_ended: int


def _ids() -> Iterator[int]:
    numbers = random.Random(0)
    while True:
        yield numbers.randrange(5, 250)
