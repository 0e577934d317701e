"""Pooling: how the hidden states of an embedder become one vector, as sentence-transformers writes it down.

Octavo takes the last token's hidden state at length 1, which is what decoders that were trained to embed
use. A folder may ask for the mean of all tokens or for more layers behind; its vectors would be others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.loading.model_files import MODULES_NAME

_MODE = "pooling_mode"
_LAST_TOKEN = "lasttoken"  # noqa: S105 (no secret)
# What sentence-transformers takes where a folder names no mode.
_DEFAULT_MODE = "mean_tokens"
_KNOWN_STEPS = ("Transformer", "Pooling", "Normalize")


def check_pooling(folder: Path) -> None:
    """Refuses a model whose folder asks for another vector; without modules.json it asks for none.

    Raises:
        ModelUnsupportedError: It names the step or the mode.
        ModelInvalidError: A file is damaged.
    """
    for step in _read(folder / MODULES_NAME, list):
        kind = str(step.get("type")).rpartition(".")[2] if isinstance(step, dict) else repr(step)
        if kind not in _KNOWN_STEPS:
            raise ModelUnsupportedError(
                f"{MODULES_NAME}: the step {kind} is not implemented; implemented are "
                f"{', '.join(_KNOWN_STEPS)}."
            )
        if kind == "Pooling":
            _check_modes(folder, Path(str(step.get("path", "")), "config.json"))


def _check_modes(folder: Path, name: Path) -> None:
    modes = _modes(_read(folder / name, dict))
    if modes != [_LAST_TOKEN]:
        raise ModelUnsupportedError(
            f"{name}: {_MODE} is {' and '.join(modes)}; implemented is {_LAST_TOKEN} alone, the last "
            "token's hidden state."
        )


def _modes(config: dict[str, Any]) -> list[str]:
    """Of today's form, a name or several, and of the older one, a switch for each."""
    named = config.get(_MODE)
    if named:
        return [str(mode) for mode in named] if isinstance(named, list) else [str(named)]
    switches = [name for name, is_on in config.items() if name.startswith(f"{_MODE}_") and is_on]
    return [name.removeprefix(f"{_MODE}_") for name in switches] or [_DEFAULT_MODE]


def _read(path: Path, kind: type) -> Any:
    """What a file holds; empty where there is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return kind()
    except (ValueError, OSError, RecursionError) as error:
        raise ModelInvalidError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, kind):
        raise ModelInvalidError(f"{path} holds a {type(value).__name__}, not a {kind.__name__}.")
    return value
