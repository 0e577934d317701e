"""Characters that are looked at or copied, counted: work that grows with a text's length, or its square."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from octavo.engine.requests.marked_text import MarkedText


class CountedWork:
    """Counts as long as `monkeypatch` lasts; give texts through `counted`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_characters = 0
        work = self

        class Counting(MarkedText, frozen=True):
            def __post_init__(self) -> None:
                work.num_characters += len(self.text) + len(self.hidden)

        for name, module in list(sys.modules.items()):
            if name.startswith("octavo.") and hasattr(module, MarkedText.__name__):
                monkeypatch.setattr(module, MarkedText.__name__, Counting)

    def counted(self, pieces: Sequence[MarkedText]) -> list[MarkedText]:
        work = self

        class Counted(str):
            __slots__ = ()

            def __getitem__(self, places: Any) -> str:
                part = str.__getitem__(self, places)
                work.num_characters += len(part)
                return Counted(part)

        return [MarkedText(Counted(piece.text), piece.hidden) for piece in pieces]
