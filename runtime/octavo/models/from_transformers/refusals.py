"""Refusals of models that transformers' own modules do not run over the paged KV cache.

Where Octavo has code of its own for the config.json, transformers' modules were asked for, and what to do
comes first: leave that out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from octavo.errors import ModelUnsupportedError
from octavo.models.from_transformers.interface import RECORDED


class ModulesRefusedError(ModelUnsupportedError):
    """Says of transformers' modules what is wrong with them for this architecture."""

    def __init__(self, architecture: str, why: str, instead: str = "Serve another model.") -> None:
        super().__init__(
            f"config.json: architecture {architecture} would run by transformers' own modules over the paged "
            f"KV cache, and {why}. {instead}"
        )
        self._beside_own_code = (
            f"Leave --model-impl out: Octavo's own code runs {architecture}. transformers' own modules do "
            f"not, over the paged KV cache: {why}."
        )

    def beside_own_code(self) -> ModelUnsupportedError:
        """Of a config.json that Octavo's own code takes."""
        return ModelUnsupportedError(self._beside_own_code)


def refuse(architecture: str, why: str) -> NoReturn:
    raise ModulesRefusedError(architecture, why)


@contextmanager
def translated_errors(architecture: str, when: str) -> Iterator[None]:
    """Whatever transformers' modules raise, as a refusal."""
    try:
        yield
    except ModelUnsupportedError:
        raise
    except Exception as error:
        if isinstance(error, KeyError) and RECORDED in str(error):
            refuse(architecture, "these have attentions of their own, and none by the interface")
        words = " ".join(str(error).split())
        raise ModulesRefusedError(
            architecture,
            f"they fail {when}: {type(error).__name__}: {words:.300}",
            "Serve another model, or correct config.json.",
        ) from error


@contextmanager
def own_code_first(*, has_own_code: bool) -> Iterator[None]:
    """Refusals name Octavo's own code first where it takes the config.json."""
    try:
        yield
    except ModulesRefusedError as error:
        if not has_own_code:
            raise
        raise error.beside_own_code() from error
