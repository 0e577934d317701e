"""Fill in the middle. The prompt from which a model writes what stands between a prefix and a suffix.

Models that were trained for it mark the parts with special tokens (Bavarian et al. 2022); which ones, their
vocabulary says. Ids are joined, not texts, so that nothing in a client's text can be such a token's part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from octavo.server.openai.api_errors import invalid_value, quoted


@dataclass(frozen=True, slots=True)
class MiddleTokens:
    """Stand before the prefix, before the suffix and before the middle; each of `ends` ends the middle.

    `begins_words`: the tokenizer takes every text for the begin of a word, and a suffix is none.
    """

    prefix: int
    suffix: int
    middle: int
    ends: tuple[int, ...] = ()
    begins_words: bool = False

    def prompt(
        self, start: Sequence[int], prefix: Sequence[int], suffix: Sequence[int]
    ) -> list[int]:
        """Behind `start`, what the tokenizer puts before any text."""
        return [*start, self.prefix, *prefix, self.suffix, *suffix, self.middle]

    def whole_prefix(self, text: str, encode: Callable[[str], list[int]]) -> str:
        """What is encoded of a prefix, so that a space of the tokenizer's own comes first and then all that
        the text begins with: some tokenizers put none before a space."""
        if self.begins_words and encode(f" {_MARK}") == encode(_MARK):
            return f" {text}"
        return text

    def encode_suffix(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        """Token ids of a text within a line; `encode` adds no special tokens."""
        if not self.begins_words:
            return encode(text)
        mark = encode(_MARK)
        whole = encode(_MARK + text)
        return whole[len(mark) :] if whole[: len(mark)] == mark else encode(text)


# No tokenizer has a token of it together with what follows (CodeLlama's own way).
_MARK = "☺"
_QWEN_ENDS = ("<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|file_separator|>")
_CODE_LLAMA = "▁<PRE>"
# Prefix, suffix, middle, and what ends the middle where the model's ends of sequence do not name it.
_FORMS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    # Qwen-coder, CodeGemma, Granite.
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", _QWEN_ENDS),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<file_sep>",)),  # StarCoder
    (_CODE_LLAMA, "▁<SUF>", "▁<MID>", ("▁<EOT>",)),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ()),
)


def find_middle_tokens(id_of: Callable[[str], int | None]) -> MiddleTokens | None:
    """Of the vocabulary that `id_of` looks up; None for a model that was not trained for it."""
    for prefix, suffix, middle, ends in _FORMS:
        found = [id_of(name) for name in (prefix, suffix, middle)]
        known = [one for one in found if one is not None]
        if len(known) == len(found):
            ending = (id_of(name) for name in ends)
            return MiddleTokens(
                known[0],
                known[1],
                known[2],
                tuple(one for one in ending if one is not None),
                begins_words=prefix == _CODE_LLAMA,
            )
    return None


def halves(prompt: str | list[int], suffix: str, mark: str | None) -> tuple[str | list[int], str]:
    """What stands before the middle and behind it, where the text says so itself.

    Args:
        mark: Of the middle, at which CodeLlama's tokenizer cuts a text.

    Raises: `ApiError` for more than one middle.
    """
    if not mark or not isinstance(prompt, str) or mark not in prompt:
        return prompt, suffix
    before, *others = prompt.split(mark)
    if suffix or len(others) > 1:
        why = "beside suffix" if suffix else f"{len(others)} times"
        raise invalid_value(
            "prompt",
            f"prompt holds {quoted(mark)} {why}, and one place can be filled in. Leave all but one out.",
        )
    return before, others[0]
