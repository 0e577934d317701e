"""Bad words as tokens: what the words of `SamplingParams.bad_words` are to one tokenizer."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from octavo.errors import InvalidParameterError
from octavo.sampling_params import SamplingParams


def with_word_tokens(params: SamplingParams, encode: Callable[[str], list[int]]) -> SamplingParams:
    """`params` with the token ids of its words; `encode` adds no special tokens.

    A word is forbidden at a text's begin and, where a tokenizer writes it otherwise, behind a space.
    Raises `InvalidParameterError` for a word that is no token.
    """
    if not params.bad_words:
        return params
    found: list[list[int]] = []
    for word in params.bad_words:
        plain, spaced = encode(word.lstrip()), encode(f" {word.lstrip()}")
        if not plain:
            raise InvalidParameterError(
                "bad_words",
                f"bad_words holds {word!r:.80}, of which the tokenizer makes no token. Leave it out.",
            )
        found.append(plain)
        # A word of its own, and not the same one behind the token of a space.
        if len(spaced) == len(plain) and spaced[0] != plain[0]:
            found.append(spaced)
    return replace(params, bad_words_token_ids=found)
