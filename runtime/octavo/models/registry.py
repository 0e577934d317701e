"""Registry of architectures: which are implemented, by the name that config.json gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.generation_config import read_eos_token_ids
from octavo.models.base import ModelConfig
from octavo.models.config_reader import ConfigReader, read_json_object
from octavo.models.families import (
    gemma2,
    gpt_neox,
    llama,
    mistral,
    mixtral,
    phi,
    phi3,
    qwen2,
    qwen3,
)

_READERS: Mapping[str, Callable[[ConfigReader], ModelConfig]] = {
    gemma2.STEM: gemma2.Gemma2Config.read,
    gpt_neox.STEM: gpt_neox.GPTNeoXConfig.read,
    llama.STEM: llama.LlamaConfig.read,
    mistral.STEM: mistral.MistralConfig.read,
    mixtral.STEM: mixtral.MixtralConfig.read,
    phi.STEM: phi.PhiConfig.read,
    phi3.STEM: phi3.Phi3Config.read,
    qwen2.STEM: qwen2.Qwen2Config.read,
    qwen3.STEM: qwen3.Qwen3Config.read,
}
FAMILIES: Mapping[str, Callable[[ConfigReader], ModelConfig]] = {
    f"{stem}ForCausalLM": read for stem, read in _READERS.items()
}
# Saved without a head, to embed.
_BASE_CLASSES = {f"{stem}Model": read for stem, read in _READERS.items()}


def read_model_config(folder: Path) -> ModelConfig:
    """Reads config.json, and the end-of-sequence tokens that generation_config.json adds.

    Raises `ModelInvalidError` for damaged files and `ModelUnsupportedError` for what is not implemented or
    not known.
    """
    config = read_config(read_json_object(folder / "config.json"))
    spec = config.spec
    eos = tuple(dict.fromkeys(spec.eos_token_ids + read_eos_token_ids(folder)))
    return replace(config, spec=replace(spec, eos_token_ids=eos))


def read_config(raw: Mapping[str, object]) -> ModelConfig:
    """As `read_model_config`, of the object alone."""
    architectures = raw.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise ModelInvalidError(
            f"config.json: architectures is {architectures!r}; it must name the model's class, such as "
            "LlamaForCausalLM."
        )
    read = FAMILIES.get(architectures[0]) or _BASE_CLASSES.get(architectures[0])
    if read is None:
        raise ModelUnsupportedError(
            f"config.json: architecture {architectures[0]!r} is not implemented; implemented are "
            f"{', '.join(sorted(FAMILIES))}."
        )
    reader = ConfigReader(raw)
    config = read(reader)
    reader.refuse_unread()
    return config
