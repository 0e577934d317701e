"""Sampling parameters. How the tokens of one request are chosen, and when it stops. Names and defaults are
vLLM's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams

MAX_N = 128
MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_BAD_WORDS = 1024
MAX_BIAS = 100.0


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling of one request. Raises `InvalidParameterError` when built with a value out of range.

    Args:
        n: Number of completions for the prompt.
        temperature: 0 is greedy; otherwise the logits are divided by it.
        top_p: Keep the smallest set of tokens whose probability reaches it; 1 keeps all, 0 the best alone.
        top_k: Keep the k most probable tokens; 0 or -1 keeps all.
        min_p: Drop tokens below this share of the most probable token's probability.
        presence_penalty: Subtracted from the logit of every token that was generated already.
        frequency_penalty: The same, times how often it was generated.
        repetition_penalty: Divides positive and multiplies negative logits of tokens in prompt or output.
        seed: Draws the same random numbers, whatever else is in the batch.
        stop: A string, or strings, that end the output; they are not part of it.
        include_stop_str_in_output: What ends the output (a stop string, or a token of `stop_token_ids`) is
            part of its text.
        stop_token_ids: Token ids that end the output.
        ignore_eos: Go on after the model's end-of-sequence token (benchmarks).
        max_tokens: Tokens to generate at most; None means up to the model's context. 0 runs the prompt alone.
        min_tokens: No end of any kind, stop strings among them, before so many tokens.
        logprobs: Report the log-probability of the sampled token and of this many best ones.
        prompt_logprobs: Report the log-probability of each token of the prompt but the first, and of this
            many best ones at its place.
        logit_bias: Added to the scores of these token ids, each in [-100, 100].
        allowed_token_ids: No other token is drawn.
        bad_words: Words that are not written: the last token of one is not drawn behind those before it.
        bad_words_token_ids: The same as lists of token ids; made of `bad_words` where a tokenizer is known.
        structured_outputs: What the output must be a document of.
        skip_special_tokens: Leave special tokens out of the text.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    bad_words_token_ids: list[list[int]] | None = None
    structured_outputs: StructuredOutputsParams | None = None
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False

    def __post_init__(self) -> None:
        check_number("n", self.n, 1, MAX_N, is_whole=True)
        check_number("temperature", self.temperature, 0.0, 100.0)
        check_number("top_p", self.top_p, 0.0, 1.0)
        check_number("top_k", self.top_k, -1, 2**31 - 1, is_whole=True)
        check_number("min_p", self.min_p, 0.0, 1.0)
        check_number("presence_penalty", self.presence_penalty, -2.0, 2.0)
        check_number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        check_number("repetition_penalty", self.repetition_penalty, 0.0, 100.0, open_low=True)
        if self.max_tokens is not None:
            check_number("max_tokens", self.max_tokens, 0, 2**31 - 1, is_whole=True)
        most = 2**31 - 1 if self.max_tokens is None else self.max_tokens
        check_number("min_tokens", self.min_tokens, 0, most, is_whole=True)
        for name in ("logprobs", "prompt_logprobs"):
            if (count := getattr(self, name)) is not None:
                check_number(name, count, 0, MAX_LOGPROBS, is_whole=True)
        if self.seed is not None:
            check_number("seed", self.seed, -(2**63), 2**63 - 1, is_whole=True)
        for name in ("ignore_eos", "skip_special_tokens", "include_stop_str_in_output"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidParameterError(
                    name, f"{name} is {getattr(self, name)!r}; it must be True or False."
                )
        self._check_stops()
        self._check_shapes()

    def _check_stops(self) -> None:
        if self.stop_token_ids is not None and not _all_of(self.stop_token_ids, int):
            raise InvalidParameterError(
                "stop_token_ids",
                f"stop_token_ids is {self.stop_token_ids!r:.80}; it must be a list of token ids.",
            )
        if self.stop is not None and not isinstance(self.stop, str) and not _all_of(self.stop, str):
            raise InvalidParameterError(
                "stop", f"stop is {self.stop!r:.80}; it must be a string or a list of strings."
            )
        strings = self.stop_strings
        if len(strings) > MAX_STOP_STRINGS:
            raise InvalidParameterError(
                "stop", f"stop holds {len(strings)} strings; give at most {MAX_STOP_STRINGS}."
            )
        if "" in strings:
            place = "" if self.stop == "" else f", at place {strings.index('')} of {len(strings)}"
            raise InvalidParameterError(
                "stop",
                f"stop holds an empty string{place}, which would end every answer before it begins. Leave "
                "it out.",
            )

    def _check_shapes(self) -> None:
        """What names tokens by their ids; whether the model has them is known to the engine alone."""
        if self.logit_bias is not None:
            if not _maps_ids(self.logit_bias):
                raise InvalidParameterError(
                    "logit_bias",
                    f"logit_bias is {self.logit_bias!r:.80}; it must map token ids to numbers.",
                )
            for token_id, value in self.logit_bias.items():
                check_number(f"logit_bias.{token_id}", value, -MAX_BIAS, MAX_BIAS)
        allowed = self.allowed_token_ids
        if allowed is not None and (not allowed or not _all_of(allowed, int)):
            raise InvalidParameterError(
                "allowed_token_ids",
                f"allowed_token_ids is {allowed!r:.80}; it must be a list of token ids that is not empty.",
            )
        self._check_bad_words()
        if self.structured_outputs is not None and self.ignore_eos:
            raise InvalidParameterError(
                "ignore_eos",
                f"ignore_eos cannot be had together with {self.structured_outputs.parameter}. Leave one "
                "out.",
            )

    def _check_bad_words(self) -> None:
        words, tokens = self.bad_words, self.bad_words_token_ids
        if words is not None and not (_all_of(words, str) and all(map(str.strip, words))):
            raise InvalidParameterError(
                "bad_words",
                f"bad_words is {words!r:.80}; it must be a list of words that are not empty.",
            )
        if tokens is not None and not all(one and _all_of(one, int) for one in tokens):
            raise InvalidParameterError(
                "bad_words_token_ids",
                f"bad_words_token_ids is {tokens!r:.80}; it must hold lists of token ids.",
            )
        if len(words or ()) > MAX_BAD_WORDS:
            raise InvalidParameterError(
                "bad_words",
                f"bad_words holds {len(words or ())} words; give at most {MAX_BAD_WORDS}.",
            )
        if words and self.allowed_token_ids is not None:  # might leave no token
            raise InvalidParameterError(
                "bad_words",
                "bad_words cannot be had together with allowed_token_ids. Leave one out.",
            )

    def named_token_ids(self) -> Iterator[tuple[str, int]]:
        """Every token id that the request names, and the parameter that names it."""
        for name, token_ids in (
            ("logit_bias", self.logit_bias),
            ("allowed_token_ids", self.allowed_token_ids),
            ("stop_token_ids", self.stop_token_ids),
        ):
            yield from ((name, token_id) for token_id in token_ids or ())
        for word in self.bad_words_token_ids or ():
            yield from (("bad_words", token_id) for token_id in word)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` in one form, whichever of its three the caller used."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def is_greedy(self) -> bool:
        return self.temperature < 1e-5 or self.top_p == 0.0


def _all_of(values: object, kind: type) -> bool:
    return isinstance(values, list | tuple) and all(_is_of(value, kind) for value in values)


def _maps_ids(value: object) -> bool:
    return isinstance(value, dict) and all(_is_of(key, int) for key in value)


def _is_of(value: object, kind: type) -> bool:
    # In Python True is 1, and no token.
    return isinstance(value, kind) and not isinstance(value, bool)


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    is_whole: bool = False,
) -> None:
    """Raises `InvalidParameterError` unless `low <= value <= high`, or `low < value` with `open_low`.

    `is_whole`: only integers pass; the wire to the engine process takes no other for these fields.
    """
    is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
    if is_number and low <= value <= high and not (open_low and value == low):
        return
    bracket = "(" if open_low else "["
    kind = "an integer" if is_whole else "a number"
    limits = f"{low}, {high}" if is_whole else f"{low:g}, {high:g}"
    raise InvalidParameterError(
        name, f"{name} is {value!r}; it must be {kind} in {bracket}{limits}]."
    )
