"""Context of a section. What a section works with: sizes, the model, the device's ceilings, and how much time
is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.formulas import ModelShape, Roofline
from benchmarks.gpu.models import shape_of
from benchmarks.gpu.results import Row, SectionResult
from benchmarks.gpu.scale import Scale

if TYPE_CHECKING:
    from benchmarks.gpu.engine import EngineUnderTest


class SectionOverrunError(Exception):
    """The section's time is up; what it emitted so far stands."""


class Context:
    """One process's state: engine and transformers model are made when a section first asks.

    Args:
        folder: Of the model.
        roofline: Measured before; None when it was not.
        on_row: Gets every row as it is measured, so that a section that is cut keeps them.
        started: `time.time()` at which this process was started.
    """

    def __init__(
        self,
        *,
        scale: Scale,
        model: str,
        folder: Path,
        roofline: Roofline | None,
        on_row: Callable[[Row], None],
        started: float,
    ) -> None:
        self.scale = scale
        self.model = model
        self.folder = folder
        self.roofline = roofline
        self.started = started
        self.device = torch.device(
            "cuda" if torch.cuda.is_available() and not scale.is_smoke else "cpu"
        )
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self._on_row = on_row
        self._rows: list[Row] = []
        self._deadline = float("inf")
        self._engine: EngineUnderTest | None = None
        self._engine_error: Exception | None = None
        self._transformers: Any = None

    @property
    def shape(self) -> ModelShape:
        return shape_of(self.model)

    def begin(self, budget_seconds: float) -> None:
        self._rows = []
        self._deadline = time.monotonic() + budget_seconds

    @property
    def seconds_left(self) -> float:
        """Of the section's budget."""
        return self._deadline - time.monotonic()

    def check(self) -> None:
        """Raises `SectionOverrunError` when the section's time is up."""
        if self.seconds_left < 0:
            raise SectionOverrunError

    def emit(self, row: Row) -> None:
        self._rows.append(row)
        self._on_row(row)
        self.check()

    def result(self, *notes: str) -> SectionResult:
        """The rows emitted since `begin`."""
        return SectionResult(self._rows, list(notes))

    def share(self, best: float, measured: float) -> float | None:
        """`best / measured`, or None where the ceilings are unknown."""
        return None if self.roofline is None else round(best / measured, 3)

    @property
    def engine(self) -> EngineUnderTest:
        """Raises what its first start raised, without trying anew."""
        from benchmarks.gpu.engine import EngineUnderTest  # other processes need no engine

        if self._engine_error is not None:
            raise self._engine_error
        if self._engine is None:
            try:
                self._engine = EngineUnderTest(self.folder, self.scale, self.check)
            except Exception as error:
                self._engine_error = error
                raise
        return self._engine

    def settle(self) -> None:
        """Leaves nothing of a section behind for the next."""
        self._deadline = float("inf")
        if self._engine is not None:
            self._engine.abort_all()

    @property
    def transformers_model(self) -> Any:
        """transformers' form of the model, random weights, in the benchmark's dtype."""
        if self._transformers is None:
            from transformers import AutoConfig, AutoModelForCausalLM

            config = AutoConfig.from_pretrained(self.folder)
            with self.device:
                model = AutoModelForCausalLM.from_config(config, dtype=self.dtype)
            self._transformers = model.eval()
        return self._transformers
