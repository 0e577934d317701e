"""Reads a checkpoint's safetensors, in one file or many.

Pickle checkpoints are refused: reading one runs whatever code it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import torch

from octavo.errors import ModelInvalidError

INDEX_NAME = "model.safetensors.index.json"
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_MAX_NAMES_IN_MESSAGE = 8


class SafetensorsWeights:
    """The tensors of the checkpoint in `folder`, read lazily.

    Raises `ModelInvalidError` when there are no safetensors or a file is damaged or missing.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._folder = folder
        self._handles: dict[str, Any] = {}  # parameter name -> open file that holds it
        self._taken: set[str] = set()
        self._problems: list[str] = []
        self._files = ExitStack()
        for path in _checkpoint_files(folder):
            handle = self._open(path)
            for name in handle.keys():  # noqa: SIM118 (a file handle, no dict)
                self._handles[name] = handle

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        handle = self._handles.get(name)
        if handle is None:
            self._problems.append(f"{name} is missing")
            return torch.zeros(shape, dtype=self._dtype, device=self._device)
        self._taken.add(name)
        tensor: torch.Tensor = handle.get_tensor(name)
        if tuple(tensor.shape) != shape:
            self._problems.append(
                f"{name} has shape {list(tensor.shape)} where config.json says {list(shape)}"
            )
            return torch.zeros(shape, dtype=self._dtype, device=self._device)
        if not tensor.is_floating_point():
            self._problems.append(f"{name} is {tensor.dtype}, not a floating-point tensor")
        return tensor.to(device=self._device, dtype=self._dtype)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        unexpected = sorted(n for n in self._handles if n not in self._taken and not is_ignored(n))
        problems = [*self._problems, *(f"{name} is unexpected" for name in unexpected)]
        self._files.close()
        self._handles.clear()
        if problems:
            shown = "; ".join(problems[:_MAX_NAMES_IN_MESSAGE])
            more = len(problems) - _MAX_NAMES_IN_MESSAGE
            rest = f"; and {more} more" if more > 0 else ""
            raise ModelInvalidError(
                f"The weights in {self._folder} do not match its config.json: {shown}{rest}. "
                "Download the model again, or correct config.json."
            )

    def _open(self, path: Path) -> Any:
        try:
            opened = safetensors.safe_open(str(path), framework="pt", device=str(self._device))
            return self._files.enter_context(opened)
        except FileNotFoundError as error:
            raise ModelInvalidError(
                f"{INDEX_NAME} names {path.name}, which is missing in {path.parent}. Download the "
                "model again."
            ) from error
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelInvalidError(
                f"{path} is damaged: {error}. Download the model again."
            ) from error


def _checkpoint_files(folder: Path) -> list[Path]:
    index = folder / INDEX_NAME
    if index.is_file():
        return [folder / name for name in _names_in_index(index)]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLE_SUFFIXES)
    if pickles:
        raise ModelInvalidError(
            f"{folder} holds only pickle weights ({', '.join(pickles[:3])}); reading them runs code "
            "from the file, so they are refused. Convert the model to safetensors first."
        )
    raise ModelInvalidError(f"{folder} holds no *.safetensors weights.")


def _names_in_index(index: Path) -> list[str]:
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelInvalidError(f"{index} is damaged: {error!r}.") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelInvalidError(f"{index} names {name!r}, which is not a file beside it.")
    return names
