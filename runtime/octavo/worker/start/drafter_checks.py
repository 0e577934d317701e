"""Checks of what guesses, against the model that it guesses for; refusals of both kinds begin alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octavo.config import EngineConfig
from octavo.errors import (
    InvalidConfigurationError,
    ModelInvalidError,
    ModelUnsupportedError,
)
from octavo.models.eagle3 import is_eagle3_head
from octavo.models.registry import encoder_named_in
from octavo.models.spec import ModelSpec


def check_context(config: EngineConfig, what: str, spec: ModelSpec, max_model_len: int) -> None:
    """Raises `InvalidConfigurationError` where `what`, of `spec`, knows fewer positions."""
    if spec.context < max_model_len:
        raise refused(
            config,
            f"{what} knows {spec.context} positions (max_position_embeddings), and max_model_len is "
            f"{max_model_len}. Use --max-model-len {spec.context} or less, or name another model.",
        )


def check_is_whole(config: EngineConfig, folder: Path) -> None:
    """Raises `InvalidConfigurationError` where a head or an encoder lies there, and no draft model."""
    if is_eagle3_head(folder):
        raise refused(
            config,
            f"speculative_config.model, {folder}, is an EAGLE-3 head, which guesses with the model's own "
            "hidden states. Use method eagle3.",
        )
    check_is_no_encoder(config, folder)


def check_is_no_encoder(config: EngineConfig, folder: Path) -> None:
    """Raises `InvalidConfigurationError` where one lies there."""
    if (architecture := encoder_named_in(folder)) is not None:
        raise refused(
            config,
            f"speculative_config.model, {folder}, is an encoder ({architecture}), which makes no tokens and "
            "so guesses none. Name a model that generates, or use method ngram.",
        )


@contextmanager
def naming(what: str, folder: Path) -> Iterator[None]:
    """Two models are read: errors say which one they are of."""
    try:
        yield
    except (ModelInvalidError, ModelUnsupportedError) as error:
        raise type(error)(f"{what} in {folder}: {error}") from error


def refused(config: EngineConfig, why: str) -> InvalidConfigurationError:
    wanted = config.speculative_config
    method = "" if wanted is None else wanted.method.value
    return InvalidConfigurationError(f"speculative_config has method {method}, and {why}")
