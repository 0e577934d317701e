"""One refusal for all families that may use a sliding window: full attention would answer wrongly."""

from __future__ import annotations

from typing import NoReturn

from octavo.errors import ModelUnsupportedError


def refuse_sliding_window(architecture: str) -> NoReturn:
    raise ModelUnsupportedError(
        f"config.json: this {architecture} attends within a sliding window, which is not "
        "implemented. Use a variant with full attention."
    )
