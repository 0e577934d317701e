"""Pipelines of transformers' tokenizer classes: what comes before and after the vocabulary.

These classes make normaliser, pre-tokeniser and decoder anew, by fields of tokenizer_config.json. A
tokenizer.json of the class's kind holds the same for some values of these fields, and is brought to those
that the fields have. One of another kind was made otherwise, and its model was trained with what it holds:
the class would write text in other tokens (transformers issues 45812, 45920 and 48206), so it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers.decoders import Decoder
from tokenizers.models import Unigram
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

_SPACE = "▁"
_JOINED_SPACES = normalizers.Replace(Regex(" {2,}"), " ")
_QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
Fields = Mapping[str, Any]
"""Of tokenizer_config.json."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    normalizer: Normalizer | None
    pre_tokenizer: PreTokenizer | None
    decoder: Decoder

    def is_in(self, backend: tokenizers.Tokenizer) -> bool:
        """Whether text reaches its vocabulary as through this one."""
        return (_state(self.normalizer), _state(self.pre_tokenizer)) == (
            _state(None if _has_table(backend) else backend.normalizer),
            _state(backend.pre_tokenizer),
        )

    def around(self, backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        """A tokenizer of the same vocabulary, without added tokens."""
        made = tokenizers.Tokenizer(backend.model)
        made.normalizer = backend.normalizer if _has_table(backend) else self.normalizer
        made.pre_tokenizer = self.pre_tokenizer
        made.decoder = self.decoder
        made.post_processor = backend.post_processor
        return made


def llama(fields: Fields) -> Pipeline:
    has_space = _flag(fields, "add_prefix_space", True)
    scheme = "always" if fields.get("legacy") else "first"
    return _metaspace(scheme if has_space else "never", strips=has_space)


def code_llama(fields: Fields) -> Pipeline:
    has_space = _flag(fields, "add_prefix_space", True)
    return _metaspace("first" if has_space else "never", strips=True)


def _metaspace(scheme: str, *, strips: bool) -> Pipeline:
    steps: list[Decoder] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if strips:
        steps.append(decoders.Strip(" ", 1, 0))
    return Pipeline(
        None,
        pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=False),
        decoders.Sequence(steps),
    )


def other_forms_of_llama() -> tuple[Pipeline, ...]:
    decoder = decoders.Fuse()
    spaces = normalizers.Replace(" ", _SPACE)
    return (
        Pipeline(normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]), None, decoder),
        Pipeline(normalizers.Sequence([spaces]), None, decoder),
        Pipeline(spaces, None, decoder),
        _metaspace("always", strips=True),
    )


def gemma(_: Fields) -> Pipeline:
    return Pipeline(
        normalizers.Replace(" ", _SPACE),
        pre_tokenizers.Split(" ", "merged_with_previous", invert=False),
        decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        ),
    )


def qwen2(fields: Fields) -> Pipeline:
    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=_flag(fields, "add_prefix_space", False), use_regex=False
    )
    words = pre_tokenizers.Split(Regex(_QWEN2_PATTERN), "isolated", invert=False)
    return Pipeline(
        normalizers.NFC(), pre_tokenizers.Sequence([words, byte_level]), decoders.ByteLevel()
    )


def gpt2(fields: Fields) -> Pipeline:
    has_space = _flag(fields, "add_prefix_space", False)
    return Pipeline(
        None, pre_tokenizers.ByteLevel(add_prefix_space=has_space), decoders.ByteLevel()
    )


def gpt_neox(fields: Fields) -> Pipeline:
    has_space = _flag(fields, "add_prefix_space", False)
    return Pipeline(
        normalizers.NFC(),
        pre_tokenizers.ByteLevel(
            add_prefix_space=has_space, trim_offsets=_flag(fields, "trim_offsets", True)
        ),
        decoders.ByteLevel(),
    )


def cohere(fields: Fields) -> Pipeline:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=_flag(fields, "add_prefix_space", False))
    digits = pre_tokenizers.Digits(individual_digits=True)
    return Pipeline(
        normalizers.NFC(), pre_tokenizers.Sequence([digits, byte_level]), decoders.ByteLevel()
    )


def xlm_roberta(fields: Fields) -> Pipeline:
    scheme = "always" if fields.get("add_prefix_space", True) else "never"
    spaces = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    return Pipeline(
        None,
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces]),
        decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme),
    )


def bert(fields: Fields) -> Pipeline:
    return Pipeline(
        normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=_flag(fields, "tokenize_chinese_chars", True),
            strip_accents=fields.get("strip_accents"),
            lowercase=_flag(fields, "do_lower_case", True),
        ),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(prefix="##"),
    )


def _flag(fields: Fields, name: str, default: bool) -> bool:
    value = fields.get(name)
    return default if value is None else bool(value)


def _has_table(backend: tokenizers.Tokenizer) -> bool:
    """Its normalizer is a table of SentencePiece's, which classes take from tokenizer.json. What converters
    put behind it joins spaces, which the classes' pre-tokenizers part words at."""
    found = backend.normalizer
    if isinstance(found, normalizers.Sequence) and len(found) == 2:
        found = found[0] if _state(found[1]) == _state(_JOINED_SPACES) else None
    return isinstance(backend.model, Unigram) and isinstance(found, normalizers.Precompiled)


def _state(part: Normalizer | PreTokenizer | None) -> bytes | None:
    return None if part is None else part.__getstate__()
