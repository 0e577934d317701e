"""Fingerprint of the server, `system_fingerprint` of chats and completions: while it stays the same, so do
the software, the model and the settings by which a request with a `seed` is answered."""

from __future__ import annotations

import hashlib

import msgspec

from octavo import __version__
from octavo.config import EngineConfig
from octavo.engine.messages import EngineInfo

_NUM_DIGITS = 12


def system_fingerprint(
    model: str, revision: str | None, engine: EngineConfig, info: EngineInfo
) -> str:
    """`fp_` and hexadecimal digits.

    Args:
        model: As the server was told it; where its files lie is no matter.
    """
    settings = msgspec.structs.replace(engine, model="")
    told = [__version__, model, revision, settings, info.dtype, info.device, info.max_model_len]
    digest = hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()
    return f"fp_{digest[:_NUM_DIGITS]}"
