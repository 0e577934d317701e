"""Inspected folder: what a start would refuse of its weights and texts, and what it would miss there.

Config.json alone is worth an inspection, so a folder that holds no weights at all describes a model, and what
a start needs beside it is missing. One that holds some is meant to be served as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from octavo.end_tokens import find_end_tokens
from octavo.errors import ModelInvalidError, OctavoError
from octavo.generation_config import AUTO, choose_sampling_defaults
from octavo.loading import SafetensorsWeights
from octavo.loading.checkpoint_files import has_weights
from octavo.loading.tokenizer_files import is_tokenizer_file
from octavo.tokenizer import load_tokenizer


@dataclass(frozen=True, slots=True)
class FolderState:
    """Fields as of `Inspection`, in the words of a start."""

    weights_problem: str | None = None
    texts_problem: str | None = None
    missing: tuple[str, ...] = ()

    def with_weights(self, folder: Path, of_whom: str = "") -> FolderState:
        """Of those in the folder that can be opened and tell their tensors; the first problem stays."""
        try:
            SafetensorsWeights(folder).finish(lambda _: True)
        except ModelInvalidError as error:
            problem = f"{of_whom}{error}"
            if not has_weights(folder):
                return replace(self, missing=(*self.missing, problem))
            return replace(self, weights_problem=self.weights_problem or problem)
        return self

    def with_texts(self, folder: Path) -> FolderState:
        """Of the tokenizer, its templates and generation_config.json."""
        try:
            tokenizer = load_tokenizer(folder)
            find_end_tokens(folder, AUTO, tokenizer)
            choose_sampling_defaults(folder, AUTO)
        except OctavoError as error:
            if has_weights(folder) or not _lacks_tokenizer(folder):
                return replace(self, texts_problem=str(error))
            return replace(self, missing=(*self.missing, str(error)))
        return self


def _lacks_tokenizer(folder: Path) -> bool:
    return not any(is_tokenizer_file(path.name) for path in folder.iterdir())
