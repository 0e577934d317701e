"""Tokenizer files: which of a model's files holds the tokenizer, and what is said where none does."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from octavo.errors import ModelInvalidError

_NAME = "tokenizer.json"
_VERSIONED = re.compile(r"tokenizer\.(\d+(?:\.\d+)*)\.json")
# What other libraries read, and transformers converts.
_OTHER_FORMS = (
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tekken.json",
    "tiktoken.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def find_tokenizer_file(folder: Path, config: Mapping[str, Any]) -> Path:
    """tokenizer.json, or what tokenizer_config.json has in its place for this release of transformers.

    Raises:
        ModelInvalidError: There is none; the message says how to make one.
    """
    name = _chosen_name(config)
    path = folder / name
    if not path.is_file():
        raise no_tokenizer(str(folder), [one.name for one in folder.glob("*")], name)
    return path


def is_tokenizer_file(name: str) -> bool:
    """tokenizer.json, or one that a tokenizer_config.json may have in its place."""
    return name == _NAME or _VERSIONED.fullmatch(name) is not None


def no_tokenizer(place: str, names: Iterable[str], wanted: str = _NAME) -> ModelInvalidError:
    """Of a folder that holds `names` and a tokenizer in no form that is read."""
    others = [name for name in _OTHER_FORMS if name in set(names)]
    found = f", but {' and '.join(others)}" if others else ""
    return ModelInvalidError(
        f"{place} holds no {wanted}{found}. Convert the tokenizer once, where transformers, sentencepiece "
        "and tiktoken are installed: transformers.AutoTokenizer.from_pretrained(MODEL).save_pretrained"
        "(FOLDER). Serve a folder or bucket that holds what this writes beside the weights."
    )


def _chosen_name(config: Mapping[str, Any]) -> str:
    names = config.get("fast_tokenizer_files")
    if names is None:
        return _NAME
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelInvalidError(
            f"tokenizer_config.json: fast_tokenizer_files is {names!r:.200}; it must be a list of names."
        )
    release = _parts(importlib.metadata.version("transformers"))
    chosen = _NAME
    # The last that is not above our release, in the order of texts, as transformers looks them up.
    for version, name in sorted(
        (match[1], name) for name in names if (match := _VERSIONED.fullmatch(name))
    ):
        if _parts(version) > release:
            break
        chosen = name
    return chosen


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
