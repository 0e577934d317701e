"""Beam search as pure arithmetic over log-probabilities; `LLM.beam_search` feeds it with the engine's.

The search of Sutskever et al. (2014) with the length penalty of Wu et al. (2016): per step every live beam
is extended by its best tokens and the `beam_width` best extensions go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from octavo.outputs import CompletionOutput, FinishReason, RequestOutput
from octavo.sampling_params import MAX_LOGPROBS, check_number

MAX_BEAM_WIDTH = MAX_LOGPROBS // 2


@dataclass(frozen=True, slots=True)
class BeamSearchParams:
    """Raises `InvalidParameterError` when built with a value out of range.

    Args:
        beam_width: Beams that are kept, and completions that come back; at most 10.
        max_tokens: Tokens to generate at most.
        length_penalty: Beams are ranked by log-probability divided by length to this power, at most 10.
        ignore_eos: Go on after the model's end-of-sequence token.
    """

    beam_width: int = 4
    max_tokens: int = 16
    length_penalty: float = 1.0
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        check_number("beam_width", self.beam_width, 1, MAX_BEAM_WIDTH, is_whole=True)
        check_number("max_tokens", self.max_tokens, 1, 2**31 - 1, is_whole=True)
        check_number("length_penalty", self.length_penalty, -10.0, 10.0)


@dataclass(frozen=True, slots=True)
class Beam:
    """A completion so far; `logprob` is the sum over its tokens. `is_ended`: by end of sequence."""

    token_ids: tuple[int, ...] = ()
    logprob: float = 0.0
    is_ended: bool = False

    @property
    def text_token_ids(self) -> tuple[int, ...]:
        """Without the token that ended it."""
        return self.token_ids[:-1] if self.is_ended else self.token_ids

    @property
    def finish_reason(self) -> FinishReason:
        return FinishReason.STOP if self.is_ended else FinishReason.LENGTH


@dataclass(slots=True)
class BeamSearch:
    """The beams of one prompt. Call `advance` until `is_done`.

    Args:
        params: The search's parameters.
        end_token_ids: They end a beam, unless `params.ignore_eos`.
        room: Tokens that the context holds after the prompt.
        live: Beams to be extended.
        ended: Beams that reached the end of sequence.
    """

    params: BeamSearchParams
    end_token_ids: Collection[int]
    room: int
    live: list[Beam] = field(default_factory=lambda: [Beam()])
    ended: list[Beam] = field(default_factory=list)

    @property
    def num_candidates(self) -> int:
        """Tokens to look at per beam: twice the width, so that ended ones leave enough to go on."""
        return 2 * self.params.beam_width

    @property
    def is_done(self) -> bool:
        if not self.live or len(self.live[0].token_ids) >= min(self.params.max_tokens, self.room):
            return True
        if len(self.ended) < self.params.beam_width:
            return False
        # A live beam only loses probability: when the best of them ranks below all, none can come in.
        return self._score(self.live[0]) <= min(map(self._score, self._best_ended()))

    @property
    def best(self) -> list[Beam]:
        """The `beam_width` best beams, ended or cut off, best first."""
        beams = sorted([*self.ended, *self.live], key=self._score, reverse=True)
        return beams[: self.params.beam_width]

    def advance(self, next_logprobs: Sequence[Mapping[int, float]]) -> None:
        """Extends the live beams; `next_logprobs[i]` are the best tokens after `live[i]`."""
        extensions = sorted(
            (
                Beam((*beam.token_ids, token_id), beam.logprob + logprob, self._ends(token_id))
                for beam, logprobs in zip(self.live, next_logprobs, strict=True)
                for token_id, logprob in logprobs.items()
            ),
            key=lambda beam: beam.logprob,
            reverse=True,
        )
        width = self.params.beam_width
        self.ended += [beam for beam in extensions[:width] if beam.is_ended]
        self.live = [beam for beam in extensions if not beam.is_ended][:width]

    def to_output(
        self,
        request_id: str,
        prompt: str | None,
        prompt_token_ids: list[int],
        decode: Callable[[Sequence[int]], str],
    ) -> RequestOutput:
        """The best beams as the completions of a prompt."""
        completions = [
            CompletionOutput(
                index=index,
                text=decode(beam.text_token_ids),
                token_ids=list(beam.token_ids),
                cumulative_logprob=beam.logprob,
                finish_reason=beam.finish_reason.value,
            )
            for index, beam in enumerate(self.best)
        ]
        return RequestOutput(request_id, prompt, prompt_token_ids, completions, finished=True)

    def _ends(self, token_id: int) -> bool:
        return not self.params.ignore_eos and token_id in self.end_token_ids

    def _best_ended(self) -> list[Beam]:
        return sorted(self.ended, key=self._score, reverse=True)[: self.params.beam_width]

    def _score(self, beam: Beam) -> float:
        return float(beam.logprob / max(1, len(beam.token_ids)) ** self.params.length_penalty)
