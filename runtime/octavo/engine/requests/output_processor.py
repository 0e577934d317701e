"""Output processor. From the engine's tokens to what a user reads: text, logprobs and finish reasons of one
request.

Runs on the API side, for the server and for `LLM` alike; the engine never sees text.
"""

from __future__ import annotations

import codecs

import msgspec
from tokenizers import Tokenizer

from octavo.engine.messages import TokenLogprobs, TokenOutput
from octavo.engine.requests.detokenizer import IncrementalDetokenizer
from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.engine.requests.stop_strings import StopMatch, StopStringFinder
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.outputs import CompletionOutput, FinishReason, Logprob, RequestOutput
from octavo.sampling_params import SamplingParams


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What one engine output adds to completion `index`.

    Args:
        index: Which of the request's n completions.
        marked: New text; may be empty (an unfinished character, a tail that may become a stop string).
            `text` leaves out the special tokens that are to be skipped; who looks for markup needs them.
        token_ids: New tokens, the end-of-sequence or stop token included.
        logprobs: Of each new token, in order; the sampled token comes first in each dict. None unless
            asked for.
        text_offsets: Of each new token, the characters of text before it; None as `logprobs`.
        finish_reason: Set on a completion's last delta.
        stop_reason: The stop string or stop token id that ended it.
        abort_needed: It ended here, at a stop string: the engine still runs it and must be told.
        error: What went wrong when `finish_reason` is `ERROR`.
        num_cached_tokens: Prompt tokens that the prefix cache held.
        first_scheduled_time: `time.time()` of the first step, on the first delta alone.
        fails_again: It would go wrong whenever the request is sent.
    """

    index: int
    marked: MarkedText
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None = None
    text_offsets: list[int] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    abort_needed: bool = False
    error: str | None = None
    num_cached_tokens: int = 0
    first_scheduled_time: float | None = None
    fails_again: bool = False

    @property
    def text(self) -> str:
        return self.marked.shown


class RequestState:
    """Everything that is known of one request on the API side.

    `tokenizer` is the Rust tokenizer (`tokenizers.Tokenizer`; of a transformers tokenizer its
    `backend_tokenizer`). Share one `vocabulary` between the requests of a tokenizer.
    """

    def __init__(
        self,
        request_id: str,
        prompt: str | None,
        prompt_token_ids: list[int],
        sampling: SamplingParams,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.request_id = request_id
        self.prompt = prompt
        self.prompt_token_ids = prompt_token_ids
        self.sampling = sampling
        self.num_cached_tokens = 0
        self._prompt_logprobs: list[TokenLogprobs] | None = None
        self._vocabulary = known = vocabulary if vocabulary is not None else Vocabulary(tokenizer)
        self._completions = [
            _CompletionState(index, prompt_token_ids, sampling, tokenizer, known)
            for index in range(sampling.n)
        ]
        self._num_unfinished = sampling.n

    @property
    def is_finished(self) -> bool:
        return self._num_unfinished == 0

    def apply(self, output: TokenOutput) -> Delta | None:
        """Adds one engine output; None when its completion had ended already (a step in flight)."""
        completion = self._completions[output.index]
        if completion.finish_reason is not None:
            return None
        self.num_cached_tokens = max(self.num_cached_tokens, output.num_cached_tokens)
        if output.prompt_logprobs is not None:
            self._prompt_logprobs = output.prompt_logprobs
        delta = completion.apply(output)
        if delta.finish_reason is not None:
            self._num_unfinished -= 1
        return delta

    @property
    def prompt_logprobs(self) -> list[dict[int, Logprob] | None] | None:
        """Of each token of the prompt; None where they were not asked for, or are not there yet."""
        if self._prompt_logprobs is None:
            return None
        return [None, *(told_logprobs(one, self._vocabulary) for one in self._prompt_logprobs)]

    def marked_text(self, index: int) -> MarkedText:
        """The text of completion `index` as it stands, with the special tokens that it leaves out."""
        return self._completions[index].marked_text

    def to_request_output(self) -> RequestOutput:
        """The request as it stands, all completions from their beginning."""
        return RequestOutput(
            request_id=self.request_id,
            prompt=self.prompt,
            prompt_token_ids=self.prompt_token_ids,
            outputs=[completion.to_output() for completion in self._completions],
            finished=self.is_finished,
            num_cached_tokens=self.num_cached_tokens,
            prompt_logprobs=self.prompt_logprobs,
        )


class _CompletionState:
    """One of a request's n completions."""

    __slots__ = (
        "_detokenizer",
        "_finder",
        "_is_plain",
        "_keeps_stop",
        "_min_tokens",
        "_num_shown",
        "_pending",
        "_special",
        "_text_parts",
        "_vocabulary",
        "cumulative_logprob",
        "finish_reason",
        "index",
        "logprobs",
        "stop_reason",
        "text_offsets",
        "token_ids",
    )

    def __init__(
        self,
        index: int,
        prompt_token_ids: list[int],
        sampling: SamplingParams,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
    ) -> None:
        self.index = index
        self.token_ids: list[int] = []
        self._text_parts: list[MarkedText] = []
        self.logprobs: list[dict[int, Logprob]] | None = (
            [] if sampling.logprobs is not None else None
        )
        self.text_offsets: list[int] | None = None if self.logprobs is None else []
        self.cumulative_logprob = 0.0
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self._min_tokens = sampling.min_tokens
        self._keeps_stop = sampling.include_stop_str_in_output
        self._vocabulary = vocabulary
        # Without them in the output there is nothing to be marked.
        self._special = vocabulary.special if sampling.skip_special_tokens else {}
        self._num_shown = 0
        self._pending = b""  # of tokens that have no text yet
        self._finder = StopStringFinder(sampling.stop_strings)
        self._is_plain = not sampling.stop_strings and self.logprobs is None
        self._detokenizer = IncrementalDetokenizer(
            tokenizer, prompt_token_ids, skip_special_tokens=sampling.skip_special_tokens
        )

    def apply(self, output: TokenOutput) -> Delta:
        if self._is_plain and output.finish_reason is None:
            return self._apply_plain(output)
        token_ids = output.new_token_ids
        finish_reason = output.finish_reason
        stop_reason: int | str | None = output.stop_reason
        text, stop_string, offsets = self._read(token_ids, finish_reason)
        if stop_string is not None:
            token_ids = token_ids[: len(offsets)]
            stop_reason = stop_string
        elif finish_reason is not None:
            rest = self._finder.push(MarkedText(self._detokenizer.flush()))
            text += self._shown(rest)
            if rest.stop_string is not None:
                stop_string = stop_reason = rest.stop_string
            else:
                text += self._finder.flush()
        abort_needed = stop_string is not None and finish_reason is None
        if stop_string is not None:
            finish_reason = FinishReason.STOP
        logprobs = None
        if self.logprobs is not None and output.logprobs is not None:
            logprobs = self._add_logprobs(output.logprobs[: len(token_ids)])
        if self.text_offsets is not None:
            self.text_offsets += offsets
        self.token_ids += token_ids
        if text.text:
            self._text_parts.append(text)
        self.finish_reason, self.stop_reason = finish_reason, stop_reason
        return Delta(
            index=self.index,
            marked=text,
            token_ids=token_ids,
            logprobs=logprobs,
            text_offsets=None if logprobs is None else offsets,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            abort_needed=abort_needed,
            error=output.error,
            fails_again=output.fails_again,
            num_cached_tokens=output.num_cached_tokens,
            first_scheduled_time=output.first_scheduled_time,
        )

    def _apply_plain(self, output: TokenOutput) -> Delta:
        """Nearly every token: no stop string is looked for, and nothing ends."""
        token_ids = output.new_token_ids
        text = joined([self._piece(token_id) for token_id in token_ids])
        self.token_ids += token_ids
        if text.text:
            self._text_parts.append(text)
        if output.first_scheduled_time is None:
            return Delta(self.index, text, token_ids)
        return Delta(
            self.index,
            text,
            token_ids,
            num_cached_tokens=output.num_cached_tokens,
            first_scheduled_time=output.first_scheduled_time,
        )

    def _read(
        self, token_ids: list[int], finish_reason: FinishReason | None
    ) -> tuple[MarkedText, str | None, list[int]]:
        """Text, the stop string that ends it, and the offset in the text of each token up to there."""
        last = len(token_ids)
        if finish_reason is FinishReason.STOP and not self._keeps_stop:
            last -= 1  # the token that ended the sequence is no part of its text
        parts: list[MarkedText] = []
        offsets: list[int] = []
        for position, token_id in enumerate(token_ids):
            offsets.append(self._num_shown + self._num_pending(token_id))
            if position == last:
                break
            piece = self._piece(token_id)
            if not piece.text:
                continue
            if len(self.token_ids) + position < self._min_tokens:
                parts.append(piece)  # no stop string begins before the minimum
                continue
            match = self._finder.push(piece)
            parts.append(self._shown(match))
            if match.stop_string is not None:
                return joined(parts), match.stop_string, offsets
        return joined(parts), None, offsets

    def _piece(self, token_id: int) -> MarkedText:
        special = self._special.get(token_id)
        if special is not None:
            return MarkedText(special, ((0, len(special)),))
        text = self._detokenizer.push(token_id)
        self._num_shown += len(text)
        if self.text_offsets is not None:
            self._pending = b"" if text else self._pending + self._vocabulary.bytes_of(token_id)
        return MarkedText(text)

    def _num_pending(self, token_id: int) -> int:
        """Characters that tokens without a text yet have begun before this one."""
        if not self._pending:
            return 0
        return num_characters_before(self._pending, self._vocabulary.bytes_of(token_id))

    def _shown(self, match: StopMatch) -> MarkedText:
        if self._keeps_stop and match.stop_string is not None:
            return match.text + MarkedText(match.stop_string)
        return match.text

    def _add_logprobs(self, positions: list[TokenLogprobs]) -> list[dict[int, Logprob]]:
        added = []
        for position in positions:
            self.cumulative_logprob += position.logprobs[0]
            added.append(told_logprobs(position, self._vocabulary))
        assert self.logprobs is not None  # noqa: S101 - the caller looked
        self.logprobs += added
        return added

    @property
    def marked_text(self) -> MarkedText:
        """As it stands. What was joined once is not joined again."""
        whole = joined(self._text_parts)
        self._text_parts = [whole]
        return whole

    def to_output(self) -> CompletionOutput:
        return CompletionOutput(
            index=self.index,
            text=self.marked_text.shown,
            token_ids=list(self.token_ids),
            logprobs=None if self.logprobs is None else list(self.logprobs),
            cumulative_logprob=None if self.logprobs is None else self.cumulative_logprob,
            finish_reason=None if self.finish_reason is None else self.finish_reason.value,
            stop_reason=self.stop_reason,
            text_offsets=None if self.text_offsets is None else list(self.text_offsets),
        )


def told_logprobs(position: TokenLogprobs, vocabulary: Vocabulary) -> dict[int, Logprob]:
    """Of one position. The token that stands there may come again among the best ones: the first mention
    keeps its place."""
    text, token_bytes = vocabulary.text_of, vocabulary.bytes_of
    return {
        token_id: Logprob(logprob, rank, text(token_id), token_bytes(token_id))
        for token_id, logprob, rank in zip(
            position.token_ids, position.logprobs, position.ranks, strict=True
        )
    }


def num_characters_before(begun: bytes, following: bytes) -> int:
    """Characters that end before `following`, of a text that may end within one: the one that it goes on with
    is not among them. Bytes that nothing goes on with show as U+FFFD."""
    whole = len(codecs.utf_8_decode(begun, "replace", False)[0])
    shown = len(begun.decode("utf-8", "replace"))
    is_going_on = len((begun + following[:1]).decode("utf-8", "replace")) == shown
    return whole if is_going_on else shown
