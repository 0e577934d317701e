"""JSON files of a model's folder, each of which holds one object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from octavo.errors import ModelInvalidError


def read_json_object(path: Path) -> dict[str, Any]:
    """Raises `ModelInvalidError` when the file is missing or no JSON object."""
    if not path.is_file():
        raise ModelInvalidError(f"{path.parent} holds no {path.name}.")
    return read_json_object_if_any(path)


def read_json_object_if_any(path: Path) -> dict[str, Any]:
    """Empty where there is no such file. Raises `ModelInvalidError` when it is no JSON object."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelInvalidError(f"{path} cannot be read: {error}") from error
    return json_object(content, str(path))


def json_object(content: bytes, name: str) -> dict[str, Any]:
    """Of a file in UTF-8 that is called `name`. Raises `ModelInvalidError` when it is no JSON object."""
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelInvalidError(f"{name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelInvalidError(f"{name} must hold a JSON object, not a {type(value).__name__}.")
    return value
