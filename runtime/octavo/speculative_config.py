"""Speculative decoding as the user asks for it: vLLM's `--speculative-config`, a JSON object."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from octavo.errors import InvalidConfigurationError
from octavo.flag_json import decode_flag

_NAME = "speculative_config"
MAX_SPECULATIVE_TOKENS = 32
MAX_LOOKUP_TOKENS = 16
_DEFAULT_LOOKUP = (2, 5)


class SpeculativeMethod(enum.Enum):
    """Who guesses: the sequence's own text, a smaller model, or a head on the model's hidden states."""

    NGRAM = "ngram"
    DRAFT_MODEL = "draft_model"
    EAGLE3 = "eagle3"


class SpeculativeConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Raises `InvalidConfigurationError` when built with a value out of range.

    Args:
        method: `ngram`, `draft_model` or `eagle3`.
        num_speculative_tokens: Guesses of one sequence in a step at most; how many of them run follows what
            was measured.
        prompt_lookup_min, prompt_lookup_max: For `ngram`: tokens that must match, and that are compared.
            Where one of them is left out it is the other, and without both 2 and 5.
        model: For the other methods: the draft model or the head, named as the model itself is.
    """

    method: SpeculativeMethod
    num_speculative_tokens: int = 4
    prompt_lookup_min: int | None = None
    prompt_lookup_max: int | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        _check_range("num_speculative_tokens", self.num_speculative_tokens, MAX_SPECULATIVE_TOKENS)
        is_ngram = self.method is SpeculativeMethod.NGRAM
        for name in ("prompt_lookup_min", "prompt_lookup_max"):
            value = getattr(self, name)
            if value is not None and not is_ngram:
                raise _wrong(f"{name} is for method ngram, and method is {self.method.value}.")
            if value is not None:
                _check_range(name, value, MAX_LOOKUP_TOKENS)
        least, most = self.lookup
        if least > most:
            raise _wrong(
                f"prompt_lookup_min is {least}; it must be at most prompt_lookup_max, {most}."
            )
        if is_ngram and self.model is not None:
            raise _wrong("model is for methods draft_model and eagle3, and method is ngram.")
        if not is_ngram and not self.model:
            raise _wrong(f"method {self.method.value} needs model: whose guesses are taken.")

    @property
    def lookup(self) -> tuple[int, int]:
        """`prompt_lookup_min` and `prompt_lookup_max`, or what holds without them."""
        least, most = self.prompt_lookup_min, self.prompt_lookup_max
        if least is None and most is None:
            return _DEFAULT_LOOKUP
        return (least or most or 1, most or least or 1)

    @classmethod
    def read(cls, value: object) -> SpeculativeConfig:
        """From JSON's text, or a mapping.

        Raises `InvalidConfigurationError`.
        """
        if isinstance(value, str):
            try:
                value = decode_flag(value)
            except ValueError as error:
                raise _wrong(str(error)) from None
        if isinstance(value, SpeculativeConfig):
            return value
        if not isinstance(value, Mapping):
            raise _wrong(f'is {_shown(value)}; give an object, such as {{"method": "ngram"}}.')
        known = cls.__struct_fields__
        unknown = [str(key) for key in value if key not in known]
        if unknown:
            raise _wrong(f"holds {unknown[0]!r}, which is not known. Use {', '.join(known)}.")
        if "method" not in value:
            raise _wrong(f"lacks method. Use {_methods()}.")
        method = value["method"]
        if not isinstance(method, str) or method not in {each.value for each in SpeculativeMethod}:
            raise _wrong(f"method is {_shown(method)}. Use {_methods()}.")
        try:
            return msgspec.convert(dict(value), cls)
        except msgspec.ValidationError as error:
            raise _wrong(f"cannot be read: {error}.") from None


def _check_range(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise _wrong(f"{name} is {value}; it must lie in [1, {most}].")


def _methods() -> str:
    return ", ".join(each.value for each in SpeculativeMethod)


def _shown(value: object) -> str:
    """In JSON's words, where Python has others."""
    words: dict[object, str] = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else f"{value!r:.80}"


def _wrong(what: str) -> InvalidConfigurationError:
    separator = " " if what.startswith(("is ", "holds ", "lacks ", "cannot ")) else ": "
    return InvalidConfigurationError(f"{_NAME}{separator}{what}")
