"""Safetensors. Reads a checkpoint's safetensors, in one file or many.

Pickle checkpoints are refused: reading one runs whatever code it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import torch

from octavo.errors import ModelInvalidError
from octavo.loading.checkpoint_files import weight_files
from octavo.loading.progress import ByteCount, told_now
from octavo.loading.source import Slice

# What a clone has in place of a large file.
_POINTER = b"version https://git-lfs"
_MAX_NAMES_IN_MESSAGE = 8


class SafetensorsWeights:
    """The tensors of the checkpoint in `folder`, read lazily.

    Raises `ModelInvalidError` when there are no safetensors, a file is damaged or missing, or two files
    hold a tensor of the same name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, Any] = {}  # parameter name -> open file that holds it
        self._taken: set[str] = set()
        self._problems: list[str] = []
        self._files = ExitStack()
        self._count = ByteCount(told_now())
        try:
            self._open_all(folder)
        except ModelInvalidError:
            self._files.close()
            raise

    def _open_all(self, folder: Path) -> None:
        homes: dict[str, Path] = {}
        paths = weight_files(folder)
        self._count.expect(sum(path.stat().st_size for path in paths if path.is_file()))
        for path in paths:
            handle = self._open(path)
            for name in handle.keys():  # noqa: SIM118 (a file handle, no dict)
                if name in homes:
                    raise ModelInvalidError(
                        f"{name} is in two files of {folder}: {homes[name].name} and {path.name}. "
                        "Download the model again, or remove the one that is not the model's."
                    )
                homes[name] = path
                self._handles[name] = handle

    def names(self) -> Collection[str]:
        return self._handles.keys()

    def has(self, name: str) -> bool:
        return name in self._handles

    def shape(self, name: str) -> tuple[int, ...] | None:
        handle = self._handles.get(name)
        return None if handle is None else tuple(handle.get_slice(name).get_shape())

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        """On the host, whole ones as views of their file."""
        return [self._tensor(name, shape, part) for name, shape in shapes.items()]

    def note(self, problem: str) -> None:
        self._problems.append(problem)

    def _tensor(self, name: str, shape: tuple[int, ...], part: Slice | None) -> torch.Tensor:
        index = None if part is None else part.of(shape)
        handle, stored = self._handles.get(name), self.shape(name)
        if handle is None or stored is None:
            self.note(f"{name} is missing")
        else:
            self._taken.add(name)
            if stored == shape:
                found: torch.Tensor = (
                    handle.get_tensor(name) if index is None else handle.get_slice(name)[index]
                )
                self._count.add(found.nbytes)
                return found
            self.note(f"{name} has shape {list(stored)} where config.json says {list(shape)}")
        zeros = torch.zeros(shape)
        return zeros if index is None else zeros[index]

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        unexpected = sorted(n for n in self._handles if n not in self._taken and not is_ignored(n))
        self._count.finish()
        noted = dict.fromkeys(self._problems)  # once, whoever noted it too
        problems = [*noted, *(f"{name} is unexpected" for name in unexpected)]
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
            opened = safetensors.safe_open(str(path), framework="pt")
            return self._files.enter_context(opened)
        except (safetensors.SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelInvalidError:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                return ModelInvalidError(
                    f"{path} holds no weights, but Git's pointer to them. Run `git lfs pull` in its folder."
                )
    return ModelInvalidError(f"{path} is damaged: {error}. Download the model again.")
