"""Words of Mistral's tokenizers: `fix_mistral_regex` of tokenizer_config.json.

Conversions of Mistral's newer tokenizers by transformers 4 split text by another pattern than Mistral does.
Which of them are meant, and the pattern, is said by transformers (`TokenizersBackend._patch_mistral_regex`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import Regex, pre_tokenizers

_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MODEL_TYPES = (None, "mistral", "mistral3", "voxtral", "ministral", "pixtral")
_SMALLEST_VOCABULARY = 100_001
_RELEASE_WITHOUT_FAULT = 5


def mend_words(
    backend: tokenizers.Tokenizer, config: Mapping[str, Any], model_config: Mapping[str, Any]
) -> None:
    """Puts Mistral's pattern in place where `fix_mistral_regex` is set and the checkpoint has the fault."""
    current = backend.pre_tokenizer
    if (
        config.get("fix_mistral_regex") is not True
        or current is None
        or backend.get_vocab_size() < _SMALLEST_VOCABULARY
        or model_config.get("model_type") not in _MODEL_TYPES
        or _release(model_config.get("transformers_version")) >= _RELEASE_WITHOUT_FAULT
    ):
        return
    words = pre_tokenizers.Split(Regex(_PATTERN), "isolated")
    if isinstance(current, pre_tokenizers.Sequence):
        current[0] = words
        backend.pre_tokenizer = current
        return
    if isinstance(current, pre_tokenizers.Metaspace):
        current = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, current])


def _release(version: object) -> int:
    """The first number of a release of transformers; 0 where none is written."""
    first = str(version or "").partition(".")[0]
    return int(first) if first.isdecimal() else 0
