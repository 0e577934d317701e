"""Content of a folder: a digest by which two servers know whether they loaded the same model.

A hub's model has a commit. What lies in a bucket or on a volume may be written over under the same name, and
a replica that starts later serves another model than the others. Weights are looked at by samples: who trains
a model further, or quantises it anew, changes them everywhere, and a start should not read them twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from octavo.errors import OctavoError
from octavo.loading.model_files import needed_files

_SAMPLES = 64
_SAMPLE_BYTES = 4096
_DIGITS = 16
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def content_of(folder: Path) -> str | None:
    """A digest of what a load would read of it, 16 hexadecimal digits; None where that cannot be told.

    Of weights the names, the sizes and samples count; times do not, as each copy has its own.
    """
    try:
        paths = [each.relative_to(folder).as_posix() for each in _files(folder)]
        read = needed_files(paths, lambda path: (folder / path).read_bytes(), str(folder))
        return _digest(folder, read)
    except (OSError, OctavoError):
        return None  # the load says what is wrong with it


def content_of_adapter(folder: Path) -> str | None:
    """The same of a LoRA adapter's folder."""
    try:
        return _digest(folder, _ADAPTER_FILES)
    except OSError:
        return None


def content_of_adapters(contents: Mapping[str, str]) -> str:
    """A digest of adapters by their names and their contents; empty where there are none."""
    text = json.dumps(contents, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] if contents else ""


def _digest(folder: Path, paths: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        size = (folder / path).stat().st_size
        digest.update(f"{path}\0{size}\0".encode())
        _add(digest, folder / path, size)
    return digest.hexdigest()[:_DIGITS]


def _files(folder: Path) -> Iterator[Path]:
    """Its own, and those of the folders in it: nothing below is read."""
    for each in folder.iterdir():
        if each.is_dir():
            yield from (below for below in each.iterdir() if below.is_file())
        else:
            yield each


def _add(digest: hashlib._Hash, path: Path, size: int) -> None:
    with path.open("rb") as file:
        if path.suffix != ".safetensors" or size <= _SAMPLES * _SAMPLE_BYTES:
            digest.update(file.read())
            return
        for sample in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
