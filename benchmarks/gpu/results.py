"""Results. What a section hands back, and how it crosses from the measuring process to the one that
reports."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
"""One line of a section's table: names to JSON values, units in the names."""


@dataclass(frozen=True, slots=True)
class SectionResult:
    """`notes` say what a reader must know to judge the rows: what was skipped, and what is handicapped."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


class Outcome(enum.Enum):
    """How a section ended. `CUT`: it overran its budget, and the rows are those it had by then."""

    DONE = "done"
    CUT = "cut"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class SectionReport:
    """One section of one model in the report. `seconds` is its wall time, engine start-up included if
    it was the first to need the engine."""

    section: str
    model: str
    outcome: Outcome
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "section": self.section,
            "model": self.model,
            "outcome": self.outcome.value,
            "seconds": round(self.seconds, 1),
            "rows": self.rows,
            "notes": self.notes,
            "error": self.error,
        }
