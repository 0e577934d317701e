"""Draft source: where what guesses comes from, a draft model or a head, which is named as the model is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from octavo import model_source
from octavo.config import EngineConfig
from octavo.errors import DownloadFailedError, ModelInvalidError, ModelNotFoundError


def with_draft_model(config: EngineConfig, *, download_dir: Path | None) -> EngineConfig:
    """The config with the folder of the draft model or head, downloaded first where needed.

    Raises as `model_source.resolve`; the message names the field.
    """
    wanted = config.speculative_config
    if wanted is None or wanted.model is None:
        return config
    with naming_the_field():
        folder = model_source.resolve(wanted.model, download_dir=download_dir)
    return msgspec.structs.replace(
        config, speculative_config=msgspec.structs.replace(wanted, model=str(folder))
    )


@contextmanager
def naming_the_field() -> Iterator[None]:
    """Two models are looked for: errors say that it is not the served one."""
    try:
        yield
    except (ModelNotFoundError, ModelInvalidError, DownloadFailedError) as error:
        raise type(error)(f"speculative_config.model: {error}") from error
