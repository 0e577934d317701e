"""Generation config. What a model's publisher recommends: `generation_config.json`, in transformers' names.

Models such as Qwen3 loop or ramble when they are sampled otherwise than their publisher says. A request's
own parameters always win. The tokens that the file names as ends are read by `octavo.end_tokens`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.errors import InvalidConfigurationError, InvalidParameterError, ModelInvalidError
from octavo.json_files import read_json_object_if_any
from octavo.sampling_params import SamplingParams, check_number

_log = logging.getLogger(__name__)

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
# What transformers would shape or end answers by besides, with the values that ask for nothing.
_NOT_APPLIED: Mapping[str, tuple[Any, ...]] = {
    "bad_words_ids": ([],),
    "begin_suppress_tokens": ([],),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "penalty_alpha": (0,),
    "sequence_bias": ({}, []),
    "stop_strings": ([], ""),
    "suppress_tokens": ([],),
    "typical_p": (1,),
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


def choose_sampling_defaults(model_folder: Path, choice: str) -> SamplingDefaults:
    """What `--generation-config` asks for.

    Args:
        model_folder: Of the resolved model; its file may be missing.
        choice: `auto` reads it, `none` or `vllm` takes nothing from it, anything else is a folder that is
            read in its place.

    Raises:
        InvalidConfigurationError: There is no such folder, or it holds no such file.
        ModelInvalidError: The file is damaged; the message names the field and its value.
    """
    if choice in OFF:
        return SamplingDefaults()
    path = generation_config_file(model_folder, choice)
    if choice != AUTO and not path.is_file():
        raise InvalidConfigurationError(
            f"generation_config is {choice!r}, which is no folder with a {FILE_NAME}; use auto, none "
            "or such a folder."
        )
    return _read_sampling_defaults(path)


def generation_config_file(model_folder: Path, choice: str) -> Path:
    """The file that `choice` names; the model's own for `auto`, and for those that turn it off."""
    folder = model_folder if choice in (AUTO, *OFF) else Path(choice).expanduser()
    return folder / FILE_NAME


def _read_sampling_defaults(path: Path) -> SamplingDefaults:
    raw = read_json_object_if_any(path)
    values: dict[str, Any] = {}
    for name, parameter in _FIELDS.items():
        value = raw.get(name)
        if value is None:
            continue
        try:
            if parameter == "max_tokens":
                check_number(parameter, value, 1, 2**31 - 1, is_whole=True)
            SamplingParams(**{parameter: value})
        except InvalidParameterError as error:
            what = str(error).replace(parameter, name, 1)
            raise ModelInvalidError(
                f"{path}: {what} Mend the file, or pass --generation-config none."
            ) from error
        values[parameter] = value
    _tell_not_applied(path, raw)
    return SamplingDefaults(values)


def _tell_not_applied(path: Path, raw: Mapping[str, Any]) -> None:
    """A publisher's wish that is not met is told."""
    for name, neutral in _NOT_APPLIED.items():
        value = raw.get(name)
        if value is not None and value not in neutral:
            _log.warning(
                "%s: %s is %.80r, which is not applied; ask for it in requests, where a field does it.",
                path,
                name,
                value,
            )
