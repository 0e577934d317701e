"""Token table. A model's tokens as llguidance needs them: their bytes, which are special, which end a text.

The bytes are those that the detokenizer writes, so that a mask is true of the text that a client gets.
"""

from __future__ import annotations

from collections.abc import Sequence

from llguidance import LLTokenizer, TokenizerWrapper

from octavo.engine.requests.vocabulary import Vocabulary
from octavo.tokenizer import Tokenizer

_APART = "\x02"
"""Written before a text, so that the text's begin is not that of a word."""


def read_token_table(
    tokenizer: Tokenizer, vocab_size: int, end_token_ids: Sequence[int]
) -> LLTokenizer:
    """Takes about a second for the largest vocabularies; `end_token_ids` is not empty."""
    tokens = TextTokens(tokenizer, vocab_size, end_token_ids[0])
    return LLTokenizer(TokenizerWrapper(tokens), n_vocab=vocab_size, eos_token=list(end_token_ids))


class TextTokens:
    """What `TokenizerWrapper` asks for.

    Called with a text it says of which tokens a model would write it: text that a grammar leaves no choice
    about is still written as the model was trained to.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_token_id: int) -> None:
        vocabulary = Vocabulary(tokenizer.backend)
        self._backend = tokenizer.backend
        self.eos_token_id = end_token_id
        # Ids that the model's table has and the tokenizer has not mean nothing and are never drawn.
        self.tokens = [vocabulary.bytes_of(token_id) for token_id in range(vocab_size)]
        self.special_token_ids = [one for one in vocabulary.special if one < vocab_size]
        special = set(self.special_token_ids)
        self._is_text = [
            bool(token) and token_id not in special for token_id, token in enumerate(self.tokens)
        ]
        self._ids = {
            token: token_id for token_id, token in enumerate(self.tokens) if self._is_text[token_id]
        }
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: str) -> list[int]:
        wanted = text.encode()
        for prefix in ("", _APART):
            ids = self._backend.encode(prefix + text, add_special_tokens=False).ids
            if (found := self._ending(ids, wanted)) is not None:
                return found
        return self._greedy(wanted)

    def _ending(self, ids: list[int], wanted: bytes) -> list[int] | None:
        """The last of these tokens that make up these bytes."""
        rest = wanted
        for count, token_id in enumerate(reversed(ids), start=1):
            if token_id >= len(self.tokens) or not self._is_text[token_id]:
                return None
            token = self.tokens[token_id]
            if not rest.endswith(token):
                return None
            rest = rest[: len(rest) - len(token)]
            if not rest:
                return ids[len(ids) - count :]
        return None

    def _greedy(self, text: bytes) -> list[int]:
        """The longest token at each place; stops where there is none."""
        found, position = list[int](), 0
        while position < len(text):
            for end in range(min(len(text), position + self._longest), position, -1):
                if (token_id := self._ids.get(text[position:end])) is not None:
                    found.append(token_id)
                    position = end
                    break
            else:
                break
        return found
