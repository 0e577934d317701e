"""Detokenizer. Token ids to text, one token at a time and at constant cost.

A character may need several tokens (UTF-8 bytes, byte fallback) and a token's text may depend on the one
before it (leading spaces). `tokenizers.DecodeStream` handles both; this module adds what a server needs
around it: the prompt's end as context, bytes that never become a character, and the end of the output.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_REPLACEMENT = "\ufffd"
_CONTEXT_TOKENS = 6
"""Prompt tokens that decide how the first output token is written; more would only cost time."""
_MAX_HELD_TOKENS = 12
"""A character takes four tokens at most, so more tokens without a text are not an unfinished one."""


class IncrementalDetokenizer:
    """Decodes one completion.

    Promise: the pieces joined are the decoded output, and no piece ends within a character. Bytes that are
    no valid UTF-8 become U+FFFD, as in a whole decode; an unfinished character at the end is dropped.
    """

    __slots__ = ("_held", "_skip_special_tokens", "_stream", "_tokenizer")

    def __init__(
        self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int], *, skip_special_tokens: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        context = list(prompt_token_ids[-_CONTEXT_TOKENS:])
        if self._decode(context).endswith(_REPLACEMENT):
            context = []  # the stream would repeat the prompt's text together with its last character
        self._stream = DecodeStream(ids=context, skip_special_tokens=skip_special_tokens)
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes; empty while a character is unfinished."""
        try:
            text = self._stream.step(self._tokenizer, token_id)
        except Exception:
            # The library raises nothing narrower. Some decoders rewrite earlier text when a token
            # follows ("Invalid prefix"): start afresh.
            self._held.append(token_id)
            return self._restart()
        if text is not None:
            if self._held:
                self._held.clear()
            return text
        self._held.append(token_id)
        return self._restart() if len(self._held) > _MAX_HELD_TOKENS else ""

    def flush(self) -> str:
        """The rest at the end of the output, without a character that was cut off."""
        if not self._held:
            return ""
        text = self._decode(self._held).rstrip(_REPLACEMENT)
        self._held.clear()
        return text

    def _restart(self) -> str:
        text = self._decode(self._held)
        self._held.clear()
        self._stream = DecodeStream(skip_special_tokens=self._skip_special_tokens)
        return text

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)
