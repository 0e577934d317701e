"""Sampling state: what a sampler knows of one sequence, and the token that it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from octavo.sampling_params import SamplingParams


class MaskSource(Protocol):
    """Works out masks of many rows at once, on threads of its own."""

    def prepare(self, states: Sequence[SamplingState]) -> None:
        """What their grammars' `next_mask` will be asked for, with their `guesses` and with fewer of them.
        May be called from another thread while the model's step runs, and raises nothing."""
        ...


class Grammar(Protocol):
    """What one sequence's output must be a document of.

    Attributes:
        source: Of its masks, and of those of all grammars of an engine.
    """

    @property
    def source(self) -> MaskSource: ...

    def error_at(self, num_tokens: int) -> str | None:
        """Why it could not be followed to the last of so many tokens of the output, or None: what the
        sequence got since means nothing."""
        ...

    def next_mask(
        self, output_token_ids: Sequence[int], guesses: Sequence[int] = ()
    ) -> npt.NDArray[np.int32]:
        """The tokens that may come next, a bit for each (see `processors.token_masks`). `output_token_ids`
        are all that came so far; behind them come `guesses`, if they come true. Behind guesses that cannot
        come true the mask means nothing. Worked out now, where `source` was not told before."""
        ...


@dataclass(frozen=True, slots=True)
class SamplingState:
    """What the sampler needs to know of one sequence.

    Args:
        params: The request's sampling parameters.
        seed: Of this sequence (request seed plus completion index), or None.
        prompt_token_ids: For the repetition penalty.
        output_token_ids: Generated so far; its length is the position in the random stream, so that a
            seeded sequence draws the same numbers after a preemption and in any batch. Live: it lacks the
            token that an entry's `PENDING_TOKEN` stands for, which counts too.
        is_pooled: The last hidden state is wanted beside the token.
        second_segment: Where the second text of a pair begins, for an encoder that tells them apart, or None.
        end_token_ids: Each of these ends the output.
        guesses: Follow the output, if they come true: of a row that is sampled before that is known.
        grammar: What the output must follow, for a request that asks for it.
    """

    params: SamplingParams
    seed: int | None
    prompt_token_ids: Sequence[int]
    output_token_ids: Sequence[int]
    is_pooled: bool = False
    second_segment: int | None = None
    grammar: Grammar | None = None
    end_token_ids: frozenset[int] = frozenset()
    guesses: tuple[int, ...] = ()


class SampledToken(msgspec.Struct, frozen=True, gc=False):
    """The token that follows a scheduled sequence; `top_*` are filled when logprobs were asked for.

    A struct, because every token of every sequence is one: a frozen dataclass takes several times as long to
    build.

    `top_token_ids[0]` is the sampled token itself, the best ones follow, most probable first.
    `embedding` is set for a sequence that is pooled: hidden_size floats, or a score alone.
    `is_spoilt`: the scores that it follows from are not numbers (NaN) or have no largest one (infinities),
    so that it means nothing.
    """

    sequence_id: int
    token_id: int
    top_token_ids: list[int] | None = None
    top_logprobs: list[float] | None = None
    top_ranks: list[int] | None = None
    embedding: list[float] | None = None
    is_spoilt: bool = False
