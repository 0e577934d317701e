"""Characters that are looked at or copied, counted: work that grows with a text's length, or its square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from octavo.engine.requests.marked_text import MarkedText


class CountedWork:
    """Counts as long as `monkeypatch` lasts; give texts through `counted`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_characters = 0
        init = MarkedText.__init__

        def counting(text: MarkedText, *values: Any, **named: Any) -> None:
            init(text, *values, **named)
            self.num_characters += len(text.text) + len(text.hidden)

        monkeypatch.setattr(MarkedText, "__init__", counting)

    def counted(self, pieces: Sequence[MarkedText]) -> list[MarkedText]:
        work = self

        class Counted(str):
            __slots__ = ()

            def __getitem__(self, places: Any) -> str:
                part = str.__getitem__(self, places)
                work.num_characters += len(part)
                return Counted(part)

        return [MarkedText(Counted(piece.text), piece.hidden) for piece in pieces]
