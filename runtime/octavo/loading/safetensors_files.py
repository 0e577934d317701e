"""Reads a checkpoint's safetensors, in one file or many.

Pickle checkpoints are refused: reading one runs whatever code it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import torch

from octavo.errors import ModelInvalidError
from octavo.loading.checkpoint_files import weight_files

_MAX_NAMES_IN_MESSAGE = 8


class SafetensorsWeights:
    """The tensors of the checkpoint in `folder`, read lazily.

    Raises `ModelInvalidError` when there are no safetensors, a file is damaged or missing, or two files
    hold a tensor of the same name.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._folder = folder
        self._handles: dict[str, Any] = {}  # parameter name -> open file that holds it
        self._taken: set[str] = set()
        self._problems: list[str] = []
        self._files = ExitStack()
        homes: dict[str, Path] = {}
        for path in weight_files(folder):
            handle = self._open(path)
            for name in handle.keys():  # noqa: SIM118 (a file handle, no dict)
                if name in homes:
                    raise ModelInvalidError(
                        f"{name} is in two files of {folder}: {homes[name].name} and {path.name}. "
                        "Download the model again, or remove the one that is not the model's."
                    )
                homes[name] = path
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
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelInvalidError(
                f"{path} is damaged: {error}. Download the model again."
            ) from error
