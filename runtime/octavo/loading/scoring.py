"""Scoring: the function that a cross-encoder's scores go through, where sentence-transformers keeps it beside
config.json.

A folder that it saved as a CrossEncoder has modules.json, and says there and in
config_sentence_transformers.json what stands around the model. Other folders say it in config.json alone.
"""

from __future__ import annotations

from pathlib import Path

from octavo.errors import ModelUnsupportedError
from octavo.json_files import read_json_object_if_any
from octavo.loading.model_files import MODULES_NAME
from octavo.loading.pooling import step_kinds

_OPTIONS_NAME = "config_sentence_transformers.json"
_MODEL = ["Transformer"]


def read_score_function(folder: Path) -> str | None:
    """Its name, such as `torch.nn.modules.linear.Identity`; None: config.json says it.

    Raises `ModelUnsupportedError` for steps behind the model, or a prompt before each text, and
    `ModelInvalidError` for a damaged file.
    """
    kinds, options = step_kinds(folder), read_json_object_if_any(folder / _OPTIONS_NAME)
    if not kinds or options.get("model_type") != "CrossEncoder":
        return None  # sentence-transformers, too, passes the file over then
    if kinds != _MODEL:
        raise ModelUnsupportedError(
            f"{MODULES_NAME}: the steps are {', '.join(kinds)}; implemented for a model that scores is "
            f"{_MODEL[0]} alone."
        )
    name, prompts = options.get("default_prompt_name"), options.get("prompts")
    if name is not None and not (isinstance(prompts, dict) and prompts.get(name) == ""):
        raise ModelUnsupportedError(
            f"{_OPTIONS_NAME}: default_prompt_name is {name!r:.60}; prompts before the texts of a pair are "
            "not implemented. Serve a cross-encoder without one."
        )
    found = options.get("activation_fn")
    return None if found is None else str(found)
