"""Auto classes of transformers: the config and the class that they make of a folder.

These are not always those that `model_type` and `architectures` name: a Mistral with `layer_types` is loaded
as a Ministral, and the text class of a model that sees, too, gets the text's config alone. By any other class
other numbers come out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from octavo.config import ModelImplementation
from octavo.errors import ModelUnsupportedError
from octavo.models.from_transformers.refusals import ModulesRefusedError, translated_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def auto_class(
    folder: Path, raw: Mapping[str, Any]
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """What `AutoModelForCausalLM` loads the folder by, whose config.json `raw` is.

    Raises `ModelUnsupportedError`.
    """
    architecture = str(raw["architectures"][0])
    _refuse_unknown(architecture, str(raw.get("model_type")))
    if raw.get("configuration_files"):
        raise ModelUnsupportedError(
            "config.json: configuration_files names other files, by versions of transformers, that stand in "
            "for this one; they are not read. Remove the field, or make one of them config.json."
        )
    with translated_errors(architecture, "with this config.json"):
        given: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        found = MODEL_FOR_CAUSAL_LM_MAPPING[type(given)]
        classes = {one.__name__: one for one in (found if isinstance(found, tuple) else (found,))}
        model_class: type[PreTrainedModel] = classes.get(architecture, next(iter(classes.values())))
        text_class = given.sub_configs.get("text_config")
        if text_class is not None and model_class.config_class is text_class:
            given = given.get_text_config()
    if model_class.__name__ != architecture:
        logger.info("transformers loads this %s as a %s.", architecture, model_class.__name__)
    return model_class, given


def _refuse_unknown(architecture: str, model_type: str) -> None:
    """Only classes that transformers itself has for causal language models: never a checkpoint's code."""
    named = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    names = (named,) if isinstance(named, str) else named or ()
    if architecture not in names:
        from octavo.models.registry import is_native  # which imports this package

        if is_native({"architectures": [architecture]}, ModelImplementation.AUTO):
            raise ModulesRefusedError(
                architecture,
                f"with model_type {model_type!r} transformers {transformers.__version__} has no causal "
                "language model of that name",
            )
        raise ModelUnsupportedError(
            f"config.json: architecture {architecture!r} with model_type {model_type!r} is implemented "
            f"neither by Octavo nor, as a causal language model, by transformers {transformers.__version__}. "
            "Code of a checkpoint's own is never run."
        )
