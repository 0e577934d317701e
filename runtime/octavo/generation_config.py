"""Generation config. What a model's publisher recommends: `generation_config.json`, in transformers' names.

Models such as Qwen3 loop or ramble when they are sampled otherwise than their publisher says, and say in
this file alone which further tokens end a turn. A request's own parameters always win.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.errors import InvalidConfigurationError, InvalidParameterError, ModelInvalidError
from octavo.sampling_params import SamplingParams

FILE_NAME = "generation_config.json"
AUTO = "auto"
OFF = ("none", "vllm")
"""Of `--generation-config`: the model folder's file, or none (`vllm` is vLLM's word for it)."""

# By transformers' names. `do_sample` is not among them, as in vLLM: clients of OpenAI's API expect to be
# sampled unless they ask for temperature 0.
_FIELDS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """What a request takes that does not say otherwise.

    Args:
        values: Fields of `SamplingParams`; those that are missing keep its defaults.
    """

    values: Mapping[str, float | int] = field(default_factory=dict)

    @property
    def max_tokens(self) -> int | None:
        """None where the publisher names no length."""
        value = self.values.get("max_tokens")
        return None if value is None else int(value)

    def params(self, **given: Any) -> SamplingParams:
        """Raises `InvalidParameterError` when what is given is out of range."""
        return SamplingParams(**{**self.values, **given})


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """`eos_token_ids` end a sequence beside those of config.json."""

    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    eos_token_ids: tuple[int, ...] = ()


def choose_generation_config(model_folder: Path, choice: str) -> GenerationConfig:
    """What `--generation-config` asks for.

    Args:
        model_folder: Of the resolved model; its file may be missing.
        choice: `auto` reads it, `none` or `vllm` takes no defaults from it (its end-of-sequence tokens
            hold all the same), anything else is a folder that is read in its place.

    Raises:
        InvalidConfigurationError: There is no such folder, or it holds no such file.
        ModelInvalidError: The file is damaged; the message names the field and its value.
    """
    if choice in OFF:
        return GenerationConfig(eos_token_ids=read_eos_token_ids(model_folder))
    folder = model_folder if choice == AUTO else Path(choice).expanduser()
    if choice != AUTO and not (folder / FILE_NAME).is_file():
        raise InvalidConfigurationError(
            f"generation_config is {choice!r}, which is no folder with a {FILE_NAME}; use auto, none "
            "or such a folder."
        )
    return GenerationConfig(read_sampling_defaults(folder), read_eos_token_ids(folder))


def read_sampling_defaults(folder: Path) -> SamplingDefaults:
    """Empty where `folder` holds no generation_config.json. Raises `ModelInvalidError`."""
    raw = _read(folder)
    values: dict[str, Any] = {}
    for name, parameter in _FIELDS.items():
        value = raw.get(name)
        if value is None:
            continue
        try:
            SamplingParams(**{parameter: value})
        except InvalidParameterError as error:
            what = str(error).replace(parameter, name, 1)
            raise ModelInvalidError(
                f"{folder / FILE_NAME}: {what} Mend the file, or pass --generation-config none."
            ) from error
        values[parameter] = value
    return SamplingDefaults(values)


def read_eos_token_ids(folder: Path) -> tuple[int, ...]:
    """Empty where `folder` holds no generation_config.json. Raises `ModelInvalidError`."""
    value = _read(folder).get("eos_token_id")
    if value is None:
        return ()
    token_ids = value if isinstance(value, list) else [value]
    for token_id in token_ids:
        if not isinstance(token_id, int) or isinstance(token_id, bool) or token_id < 0:
            raise ModelInvalidError(
                f"{folder / FILE_NAME}: eos_token_id is {value!r:.200}; it must be a token id or a "
                "list of token ids."
            )
    return tuple(token_ids)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE_NAME
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError, RecursionError) as error:
        raise ModelInvalidError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelInvalidError(f"{path} must hold a JSON object, not a {type(value).__name__}.")
    return value
