"""Quantisation config of a checkpoint: where a model's folder says how its weights are quantised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from octavo.errors import ModelInvalidError
from octavo.json_files import read_json_object
from octavo.quantization import StoredFormat, stored_format

# By the field's name, what a missing `quant_method` means: compressed-tensors had a field of its own.
_FIELDS = {"quantization_config": None, "compression_config": "compressed-tensors"}
# Files that tools wrote beside a config.json that does not say it.
_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}


def read_quantization_config(folder: Path) -> dict[str, Any] | None:
    """The object that says it, with its `quant_method`; None where weights are as they were.

    Raises `ModelInvalidError` for damaged files.
    """
    config = read_json_object(folder / "config.json")
    for name, method in _FIELDS.items():
        found = config.get(name)
        if found in (None, {}):
            continue
        if not isinstance(found, dict):
            raise ModelInvalidError(f"config.json: {name} is {found!r:.60}; it must be an object.")
        return _with_method(found, method)
    for name, method in _FILES.items():
        if (folder / name).is_file():
            return _with_method(read_json_object(folder / name), method)
    return None


def read_stored_format(folder: Path) -> StoredFormat | None:
    """The format of the weights in a model's folder; None where they are as they were.

    Raises `ModelInvalidError` for damaged files and `ModelUnsupportedError` for what is not implemented.
    """
    found = read_quantization_config(folder)
    return None if found is None else stored_format(found)


def _with_method(found: dict[str, Any], method: str | None) -> dict[str, Any]:
    named = found.get("quant_method") or found.get("method") or method
    return found if named is None else found | {"quant_method": named}
