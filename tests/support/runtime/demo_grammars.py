"""Grammars over the demo model's tokens, and what follows one, drawn from its masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from octavo.engine.grammars import GrammarCompiler
from octavo.engine.messages import AddRequest
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.model_source import resolve
from octavo.sampling_params import SamplingParams
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer(resolve("builtin://demo"))
BYTES = [
    Vocabulary(TOKENIZER.backend).bytes_of(token_id)
    for token_id in range(TOKENIZER.backend.get_vocab_size())
]
END = 1
COMPILER = GrammarCompiler(lambda: TOKENIZER, len(BYTES))
_CLOSING = frozenset(b'"]}0123456789tfn')


def request_of(name: str, **outputs: Any) -> AddRequest:
    params = SamplingParams(structured_outputs=StructuredOutputsParams(**outputs))
    return AddRequest(name, [3], params, end_token_ids=(END,))


def allowed(mask: Any) -> list[int]:
    """The ids whose bits are set."""
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: len(BYTES)]
    return np.flatnonzero(bits).tolist()


def text_of(token_ids: Sequence[int]) -> str:
    return b"".join(BYTES[one] for one in token_ids if one != END).decode()


def draw(outputs: StructuredOutputsParams, seed: int, max_tokens: int = 300) -> str | None:
    """What a model that knows nothing would write; it closes what is open the sooner the longer it writes.
    None when it came to no end."""
    numbers = np.random.default_rng(seed)
    progress, token_ids = COMPILER.prepare(outputs, [END]).start(), list[int]()
    while len(token_ids) < max_tokens:
        choices = allowed(progress.next_mask(token_ids))
        assert progress.error is None
        closing = [one for one in choices if len(BYTES[one]) == 1 and BYTES[one][0] in _CLOSING]
        if END in choices and numbers.random() < 0.5:
            choices = [END]
        elif closing and numbers.random() < 0.3 + len(token_ids) / max_tokens:
            choices = closing
        token_ids.append(int(numbers.choice(choices)))
        if token_ids[-1] == END:
            return text_of(token_ids)
    return None
