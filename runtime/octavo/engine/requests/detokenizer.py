"""Detokenizer. Token ids to text, one token at a time and at constant cost.

A character may need several tokens (UTF-8 bytes, byte fallback) and a token's text may depend on the one
before it (leading spaces). `tokenizers.DecodeStream` handles both; this module adds what a server needs
around it: the prompt's end as context, bytes that never become a character, and the end of the output.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from octavo.tokenizer.cleanup import has_cleanup, may_be_joined

_REPLACEMENT = "\ufffd"
_CONTEXT_TOKENS = 6
"""Prompt tokens that decide how the first output token is written; more would only cost time."""
_MAX_HELD_TOKENS = 12
"""A character takes four tokens at most, so more tokens without a text are not an unfinished one."""


class IncrementalDetokenizer:
    """Decodes one completion.

    Promise: the pieces joined are the decoded output, and no piece ends within a character. Bytes that are
    no valid UTF-8 become U+FFFD, as in a whole decode; an unfinished character at the end is dropped. What
    cleanup may join with the next token waits for it.
    """

    __slots__ = (
        "_before",
        "_held",
        "_is_cleaned",
        "_skip_special_tokens",
        "_stream",
        "_tokenizer",
        "_waiting",
    )

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
        self._is_cleaned = has_cleanup(tokenizer.decoder)
        self._before, self._waiting = context, list[int]()

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes; empty while a character is unfinished."""
        if not self._is_cleaned:
            return self._step(token_id)
        self._waiting.append(token_id)
        return "" if self._may_be_joined() else self._step_waiting()

    def _may_be_joined(self) -> bool:
        """Whether cleanup may join what waits with what follows."""
        is_open = may_be_joined(self._decode([*self._before, *self._waiting]))
        return is_open and len(self._waiting) <= _MAX_HELD_TOKENS

    def _step_waiting(self) -> str:
        ids, self._waiting = self._waiting, []
        self._before = [*self._before, *ids][-_CONTEXT_TOKENS:]
        return self._step(ids)

    def _step(self, given: int | list[int]) -> str:
        try:
            text = self._stream.step(self._tokenizer, given)
        except Exception:
            # The library raises nothing narrower. Some decoders rewrite earlier text when a token
            # follows ("Invalid prefix"): start afresh.
            self._hold(given)
            return self._restart()
        if text is not None:
            if self._held:
                self._held.clear()
            return text
        self._hold(given)
        return self._restart() if len(self._held) > _MAX_HELD_TOKENS else ""

    def _hold(self, given: int | list[int]) -> None:
        self._held += [given] if isinstance(given, int) else given

    def flush(self) -> str:
        """The rest at the end of the output, without a character that was cut off."""
        text = self._step_waiting() if self._waiting else ""
        if self._held:
            text += self._decode(self._held).rstrip(_REPLACEMENT)
            self._held.clear()
        return text

    def _restart(self) -> str:
        text = self._decode(self._held)
        self._held.clear()
        self._stream = DecodeStream(skip_special_tokens=self._skip_special_tokens)
        return text

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)
