"""Which architectures are implemented, by the name that config.json gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.generation_config import read_eos_token_ids
from octavo.models import gemma2, llama, mistral, mixtral, qwen2, qwen3
from octavo.models.config import ConfigReader, DecoderConfig, read_json_object

FAMILIES: Mapping[str, Callable[[ConfigReader], DecoderConfig]] = {
    family.ARCHITECTURE: family.read_config
    for family in (gemma2, llama, mistral, mixtral, qwen2, qwen3)
}


def read_model_config(folder: Path) -> DecoderConfig:
    """Reads config.json, and the end-of-sequence tokens that generation_config.json adds.

    Raises `ModelInvalidError` for damaged files and `ModelUnsupportedError` for what is not implemented.
    """
    raw = read_json_object(folder / "config.json")
    architectures = raw.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise ModelInvalidError(
            f"{folder / 'config.json'}: architectures is {architectures!r}; it must name the model's "
            f"class, such as {llama.ARCHITECTURE}."
        )
    read_config = FAMILIES.get(architectures[0])
    if read_config is None:
        raise ModelUnsupportedError(
            f"config.json: architecture {architectures[0]!r} is not implemented; implemented are "
            f"{', '.join(sorted(FAMILIES))}."
        )
    config = read_config(ConfigReader(raw))
    more = read_eos_token_ids(folder)
    return replace(config, eos_token_ids=tuple(dict.fromkeys(config.eos_token_ids + more)))


def read_quantization_method(folder: Path) -> str | None:
    """`quant_method` of a checkpoint whose weights are quantised, else None.

    Raises `ModelInvalidError` for a damaged config.json.
    """
    found = read_json_object(folder / "config.json").get("quantization_config")
    if found is None:
        return None
    return str(found.get("quant_method", "unknown")) if isinstance(found, dict) else "unknown"
