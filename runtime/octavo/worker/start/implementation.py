"""Implementation of a model: whose code computes it, and what a start does without where that is
transformers'."""

from __future__ import annotations

import logging

import msgspec
import torch

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.models.base import BaseConfig, EncoderConfig, ModelConfig
from octavo.option_pairs import MERGE_INSTEAD

logger = logging.getLogger(__name__)


def check_implementation(config: EngineConfig, model: BaseConfig) -> None:
    """Raises `InvalidConfigurationError` for an option of which nothing would come."""
    if model.is_generic and config.quantization is not None and not model.projections():
        raise InvalidConfigurationError(
            f"quantization is {config.quantization.value}, and {model.spec.architecture} runs by "
            "transformers' own modules, none of which is a plain linear one: all weights would stay as they "
            "are. Leave --quantization (spec.engine.quantization) out."
        )


def check_adapters(config: EngineConfig, model: BaseConfig) -> None:
    """Raises `InvalidConfigurationError` where `enable_lora` cannot be had."""
    if not config.enable_lora:
        return
    architecture, why = model.spec.architecture, ""
    if isinstance(model, EncoderConfig):
        why = f"{architecture} is an encoder, which takes no adapters"
    elif not model.adaptable_projections():
        why = (
            f"{architecture} runs by transformers' own modules, none of which is a plain linear one that "
            "adapters could change"
        )
    if why:
        raise InvalidConfigurationError(f"enable_lora is set, but {why}. {MERGE_INSTEAD}")


def settled(config: EngineConfig, model: ModelConfig, device: torch.device) -> EngineConfig:
    """The config that the model runs with; the log says whose code runs.

    Raises as `check_implementation`.
    """
    check_implementation(config, model)
    architecture = model.spec.architecture
    if not model.is_generic:
        logger.info("%s runs by Octavo's own code.", architecture)
        return config
    logger.info("%s runs by transformers' own modules over the paged KV cache.", architecture)
    if device.type == "cpu" or config.enforce_eager:
        return config
    problem = model.recording_problem
    if problem is None:
        return config
    logger.info("Steps run without CUDA graphs: no graph holds a decode, %s.", problem)
    return msgspec.structs.replace(config, enforce_eager=True)
