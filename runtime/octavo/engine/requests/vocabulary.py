"""Vocabulary. What single tokens are: their text, their bytes, and which of them are special.

A token may be a part of a character, and then has bytes and no text. Its bytes come from the vocabulary:
text that was decoded once does not tell them any more (U+FFFD stands for all that is no UTF-8).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """Of one tokenizer; remembers what it was asked, because the same tokens come again.

    Attributes:
        special: Texts of the special tokens, which a reader does not get to see, by id.
    """

    __slots__ = ("_added", "_bytes", "_decoders", "_texts", "_tokenizer", "special")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}
        self._bytes: dict[int, bytes] = {}
        self._decoders = _decoder_types(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self._added: Mapping[int, str] = {number: token.content for number, token in added.items()}
        self.special: Mapping[int, str] = {
            number: token.content for number, token in added.items() if token.special
        }

    def text_of(self, token_id: int) -> str:
        """As it stands within a text; U+FFFD for what is a part of a character."""
        text = self._texts.get(token_id)
        if text is None:
            # Decoded twice in a row, because decoders strip the first token's leading space.
            once = self._tokenizer.decode([token_id], skip_special_tokens=False)
            twice = self._tokenizer.decode([token_id, token_id], skip_special_tokens=False)
            text = self._texts[token_id] = twice[len(once) :]
        return text

    def bytes_of(self, token_id: int) -> bytes:
        """Those of all tokens of a text, joined, are the text in UTF-8."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._read_bytes(token_id)
        return known

    def _read_bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._tokenizer.id_to_token(token_id)
        if token is None:  # the model's table may be padded beyond the tokenizer's ids
            return b""
        if "ByteLevel" in self._decoders:
            if all(character in _BYTE_OF for character in token):
                return bytes(_BYTE_OF[character] for character in token)
            return token.encode()
        if "ByteFallback" in self._decoders and (byte := _BYTE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        # The others write text alone: a mark for a space, for a word that goes on, for a word's end.
        return self.text_of(token_id).encode()


def _decoder_types(tokenizer: Tokenizer) -> frozenset[str]:
    if tokenizer.decoder is None:
        return frozenset()
    state: dict[str, Any] = json.loads(tokenizer.decoder.__getstate__())
    return frozenset(part["type"] for part in [state, *state.get("decoders", [])])


def _byte_of_characters() -> dict[str, int]:
    """Byte-level BPE writes each byte as a printable character (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _byte_of_characters()
