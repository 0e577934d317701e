"""Draft source: where the draft model of speculative decoding comes from, which is named as the model is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from octavo import model_source
from octavo.config import EngineConfig
from octavo.speculative_config import SpeculativeMethod


def with_draft_model(config: EngineConfig, *, download_dir: Path | None) -> EngineConfig:
    """The config with the draft model's folder, downloaded first where needed. What other methods name is
    left alone: the start refuses it.

    Raises as `model_source.resolve`.
    """
    wanted = config.speculative_config
    if wanted is None or wanted.method is not SpeculativeMethod.DRAFT_MODEL or wanted.model is None:
        return config
    folder = model_source.resolve(wanted.model, download_dir=download_dir)
    return msgspec.structs.replace(
        config, speculative_config=msgspec.structs.replace(wanted, model=str(folder))
    )
