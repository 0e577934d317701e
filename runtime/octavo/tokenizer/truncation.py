"""Truncation of texts to so many tokens, as transformers does it: special tokens stay, and of a pair the
longer text gives way first.

Not by the library's own truncation, which is a setting of the tokenizer and would be everybody's. A test
holds the two against each other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import tokenizers

from octavo.errors import InvalidParameterError

_CHARS_PER_TOKEN = 8
"""Of ordinary text a token holds about four."""
_KNOWN_LENGTH = 256
"""So many tokens of a text are always counted."""
_FAR_TOO_LONG = 2**31
_PARAMETER = "truncate_prompt_tokens"


class Side(enum.StrEnum):
    """Which end is cut off."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Truncation:
    """`most` tokens are kept, special ones among them."""

    most: int
    side: Side = Side.RIGHT

    def ids(self, token_ids: list[int]) -> list[int]:
        """Of a text that came as these."""
        if self.side is Side.LEFT:
            return token_ids[max(0, len(token_ids) - self.most) :]
        return token_ids[: self.most]

    def encode(
        self, backend: tokenizers.Tokenizer, text: str, *, add_special_tokens: bool = True
    ) -> list[int]:
        """Token ids. Raises `InvalidParameterError` where no room is left beside the special tokens."""
        special = backend.num_special_tokens_to_add(False) if add_special_tokens else 0
        room = self._room(special)
        found, _ = self._plain(backend, room, text)
        found.truncate(room, direction=self.side.value)
        return list(backend.post_process(found, None, add_special_tokens).ids)

    def encode_pair(self, backend: tokenizers.Tokenizer, first: str, second: str) -> Any:
        """The library's encoding of both as one. Raises as `encode`."""
        room = self._room(backend.num_special_tokens_to_add(True))
        # Which of the two is longer counts; where both are far too long it is the second.
        known = max(room, _KNOWN_LENGTH)
        one, first_length = self._plain(backend, known, first)
        two, second_length = self._plain(backend, known, second, is_second=True)
        shares = _shares(first_length, second_length, room)
        for found, share in zip((one, two), shares, strict=True):
            found.truncate(share, direction=self.side.value)
        return backend.post_process(one, two, True)

    def _room(self, num_special: int) -> int:
        room = self.most - num_special
        if room < 1:
            raise InvalidParameterError(
                _PARAMETER,
                f"{_PARAMETER} is {self.most}, which leaves no room for a text beside the model's "
                f"{num_special} special tokens. Ask for more.",
            )
        return room

    def _plain(
        self, backend: tokenizers.Tokenizer, room: int, text: str, *, is_second: bool = False
    ) -> tuple[Any, int]:
        """Without special tokens, and how many tokens the text has. Of one that is far too long only the part
        that is kept is looked at, and as much again, so that nothing of it hangs on where the part ends; its
        length is `_FAR_TOO_LONG` then.

        Args:
            is_second: Of a pair: its tokens are of the second segment, also behind an empty text.
        """
        size = 2 * room * _CHARS_PER_TOKEN
        while True:
            part = text[-size:] if self.side is Side.LEFT else text[:size]
            given = [("", part)] if is_second else [part]
            (encoding,) = backend.encode_batch(given, add_special_tokens=False)
            if len(part) == len(text):
                return encoding, len(encoding.ids)
            if len(encoding.ids) > 2 * room:
                return encoding, _FAR_TOO_LONG
            size *= 2


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens of either text: the shorter one is cut when both are longer than a half."""
    if first + second <= room:
        return first, second
    shorter, longer = min(first, second), room - min(first, second)
    if longer < shorter:
        shorter, longer = room // 2, room - room // 2
    return (shorter, longer) if first <= second else (longer, shorter)
