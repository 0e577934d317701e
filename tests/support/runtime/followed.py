"""Completions that follow a grammar: what it takes, and random ones of it, drawn from its masks."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from octavo.engine.grammars import GrammarCompiler
from octavo.engine.grammars.progress import GrammarProgress
from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import Tokenizer

_MANY = 150
_MOST = 600


class Followed:
    """One completion under a grammar. Raises as `GrammarCompiler.prepare`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        outputs: StructuredOutputsParams,
        compiler: GrammarCompiler | None = None,
    ) -> None:
        self.end = tokenizer.end_token_ids[0]
        self.vocabulary = Vocabulary(tokenizer.backend)
        compiler = compiler or GrammarCompiler(lambda: tokenizer, tokenizer.vocab_size)
        self.progress: GrammarProgress = compiler.prepare(outputs, (self.end,)).start()
        self.tokenizer = tokenizer

    def allowed(self, ids: list[int]) -> set[int]:
        mask = self.progress.next_mask(ids)
        assert self.progress.error is None, self.progress.error
        return {*np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()}

    def takes(self, text: str) -> bool:
        """As a whole."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        if any(ids[place] not in self.allowed(ids[:place]) for place in range(len(ids))):
            return False
        return self.end in self.allowed(ids)

    def drawn(self, seed: int) -> MarkedText:
        """Each token that is allowed is as likely as another, and an end as likely as not."""
        chance = random.Random(seed)  # noqa: S311
        ids: list[int] = []
        while self.end not in (allowed := self.allowed(ids)) or chance.random() < 0.5:
            if not (others := sorted(allowed - {self.end})):
                break
            ids.append(chance.choice(others))
        return self._marked(ids)

    def steered(self, chance: random.Random, texts: Sequence[str]) -> MarkedText | None:
        """One that some texts, such as those that end a value, are likely in, wherever they are allowed; None
        where it has found no end."""
        written = [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        ids: list[int] = []
        while len(ids) < _MOST:
            allowed = self.allowed(ids)
            if self.end in allowed and (len(allowed) == 1 or chance.random() < 0.4):
                return self._marked(ids)
            if chance.random() < (0.9 if len(ids) > _MANY else 0.4):
                for token in chance.choice(written):
                    if token not in self.allowed(ids):
                        break
                    ids.append(token)
            elif others := sorted(allowed - {self.end}):
                ids.append(chance.choice(others))
        return None

    def _marked(self, ids: Sequence[int]) -> MarkedText:
        text, hidden = b"", []
        for token in ids:
            piece = self.vocabulary.bytes_of(token)
            if token in self.vocabulary.special:
                begin = len(text.decode())
                hidden.append((begin, begin + len(piece.decode())))
            text += piece
        return MarkedText(text.decode(), tuple(hidden))
