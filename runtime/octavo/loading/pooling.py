"""Pooling: how the hidden states of an embedder become one vector, as sentence-transformers writes it down.

A folder says it in modules.json: which states (`1_Pooling/config.json`), at which length (`2_Normalize`).
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.loading.model_files import MODULES_NAME

_MODE = "pooling_mode"
# What sentence-transformers takes where a folder names no mode.
_DEFAULT_MODE = "mean_tokens"
_MODEL, _POOLING, _NORMALIZE = _KNOWN_STEPS = ("Transformer", "Pooling", "Normalize")


class PoolingMode(enum.Enum):
    """Which hidden states make the vector, by the names of the older form of 1_Pooling/config.json."""

    CLS = "cls_token"
    LAST = "lasttoken"
    MAX = "max_tokens"
    MEAN = "mean_tokens"
    MEAN_SQRT = "mean_sqrt_len_tokens"
    WEIGHTED_MEAN = "weightedmean_tokens"


# Today's names, where they are others.
_MODES = {
    **{mode.value: mode for mode in PoolingMode},
    "cls": PoolingMode.CLS,
    "max": PoolingMode.MAX,
    "mean": PoolingMode.MEAN,
    "mean_sqrt_len_tokens": PoolingMode.MEAN_SQRT,
    "weightedmean": PoolingMode.WEIGHTED_MEAN,
}


@dataclass(frozen=True, slots=True)
class Pooling:
    """`is_normalised`: the vector is scaled to length 1 (L2). `file`: says so, for messages."""

    mode: PoolingMode
    is_normalised: bool
    file: str


def read_pooling(folder: Path) -> Pooling | None:
    """What the folder asks for; None without modules.json.

    Raises:
        ModelUnsupportedError: It names the step or the mode.
        ModelInvalidError: A file is damaged.
    """
    steps, kinds = _read(folder / MODULES_NAME, list), step_kinds(folder)
    if not steps:
        return None
    for kind in kinds:
        if kind not in _KNOWN_STEPS:
            raise ModelUnsupportedError(
                f"{MODULES_NAME}: the step {kind} is not implemented; implemented are "
                f"{', '.join(_KNOWN_STEPS)}."
            )
    if kinds not in ([_MODEL, _POOLING], [_MODEL, _POOLING, _NORMALIZE]):
        raise ModelUnsupportedError(
            f"{MODULES_NAME}: the steps are {', '.join(kinds)}; implemented are {_MODEL}, {_POOLING} and, "
            f"behind these, {_NORMALIZE}."
        )
    if steps[0].get("path"):
        raise ModelUnsupportedError(
            f"{MODULES_NAME}: the model lies in {steps[0]['path']!r}; implemented is the folder itself. "
            "Move the files there up, and make path empty."
        )
    name = Path(str(steps[1].get("path", "")), "config.json")
    return Pooling(_mode(folder, name), is_normalised=_NORMALIZE in kinds, file=str(name))


def step_kinds(folder: Path) -> list[str]:
    """The steps that modules.json names, by the last part of their classes; none without that file. Raises
    `ModelInvalidError` for a damaged one."""
    return [_kind(step) for step in _read(folder / MODULES_NAME, list)]


def leaves_out_prompts(folder: Path) -> bool:
    """Whether the vector is to be made of a text without the prompt before it."""
    steps = [step for step in _read(folder / MODULES_NAME, list) if _kind(step) == _POOLING]
    paths = [folder / str(step.get("path", "")) / "config.json" for step in steps]
    return any(_read(path, dict).get("include_prompt") is False for path in paths)


def read_whole_pooling(folder: Path) -> Pooling | None:
    """Of a decoder without a head: what the folder asks for, where that is more of a prompt than its last
    token. None: that is all. Raises as `read_pooling`."""
    pooling = read_pooling(folder)
    return None if pooling is None or pooling.mode is PoolingMode.LAST else pooling


def normalises(folder: Path) -> bool:
    """Whether a decoder's vector is scaled to length 1: as modules.json says, and without it.

    A folder that cannot be followed is refused where it is to embed (`check_last_token`) and not here: the
    model may be there to generate.
    """
    try:
        pooling = read_pooling(folder)
    except (ModelInvalidError, ModelUnsupportedError):
        return True
    return pooling is None or pooling.is_normalised


def check_last_token(folder: Path) -> None:
    """Refuses a decoder that runs prompts in parts, and whose folder asks for another vector than the last
    token's hidden state; without modules.json it asks for none. Raises as `read_pooling`."""
    pooling = read_pooling(folder)
    if pooling is not None and pooling.mode is not PoolingMode.LAST:
        raise ModelUnsupportedError(
            f"{pooling.file}: {_MODE} is {pooling.mode.value}; implemented for a decoder that has a head or "
            f"runs on a GPU is {PoolingMode.LAST.value} alone, the last token's hidden state. On a CPU a "
            "checkpoint of the class without a head (…Model) pools as it says."
        )


def _kind(step: object) -> str:
    return str(step.get("type")).rpartition(".")[2] if isinstance(step, dict) else repr(step)


def _mode(folder: Path, name: Path) -> PoolingMode:
    if not (folder / name).is_file():
        raise ModelInvalidError(
            f"{folder} holds no {name}, by which {MODULES_NAME} says how the model pools. Download the model "
            "again."
        )
    names = _mode_names(_read(folder / name, dict))
    mode = _MODES.get(names[0]) if len(names) == 1 else None
    if mode is None:
        raise ModelUnsupportedError(
            f"{name}: {_MODE} is {' and '.join(names)}; implemented is one of "
            f"{', '.join(one.value for one in PoolingMode)}."
        )
    return mode


def _mode_names(config: dict[str, Any]) -> list[str]:
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
