"""Everything that decides the trained weights, apart from the code: seed, phases, optimizer."""

import math
from dataclasses import dataclass
from itertools import accumulate

from training.demo_model.batches import Blend
from training.demo_model.conversations import (
    FOUNDATION,
    READING,
    RECALL,
    REFINEMENT,
    REVIEW,
    SETTLING,
    STRUCTURED,
)


@dataclass(frozen=True, slots=True)
class Phase:
    """`steps` steps on one blend: linear warm-up to the peak, then a cosine to a fiftieth of it."""

    steps: int
    warmup_steps: int
    peak_learning_rate: float
    blend: Blend

    def learning_rate(self, step: int) -> float:
        """The rate at the phase's own `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak_learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.peak_learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Phases in their order, with what they have in common."""

    phases: tuple[Phase, ...]
    seed: int = 7
    tokens_per_step: int = 4096
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    max_gradient_norm: float = 1.0

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def steps_of(self, phases: int) -> int:
        """Steps of the first `phases` phases."""
        return sum(phase.steps for phase in self.phases[:phases])

    def learning_rate(self, step: int) -> float:
        """The rate at `step` of the whole training."""
        phase, start = self._phase_at(step)
        return phase.learning_rate(step - start)

    def blend(self, step: int) -> Blend:
        """What the batch of `step` is made of."""
        return self._phase_at(step)[0].blend

    def _phase_at(self, step: int) -> tuple[Phase, int]:
        ends = accumulate(phase.steps for phase in self.phases)
        for phase, end in zip(self.phases, ends, strict=True):
            if step < end:
                return phase, end - phase.steps
        raise ValueError(f"step {step} lies after the recipe's last step, {self.steps - 1}")


FOUNDATION_PHASE = Phase(
    steps=1800,
    warmup_steps=100,
    peak_learning_rate=2e-3,
    blend=Blend(FOUNDATION, row_weights=(50, 28, 14, 8)),
)
REFINEMENT_PHASE = Phase(
    steps=400,
    warmup_steps=30,
    peak_learning_rate=1e-3,
    blend=Blend(REFINEMENT, row_weights=(20, 45, 25, 10)),
)
STRUCTURED_PHASE = Phase(
    steps=400,
    warmup_steps=30,
    peak_learning_rate=1e-3,
    blend=Blend(STRUCTURED, row_weights=(5, 35, 40, 20)),
)
READING_PHASE = Phase(
    steps=300,
    warmup_steps=20,
    peak_learning_rate=1e-3,
    blend=Blend(READING, row_weights=(5, 35, 40, 20)),
)
SETTLING_PHASE = Phase(
    steps=200,
    warmup_steps=10,
    peak_learning_rate=6e-4,
    blend=Blend(SETTLING, row_weights=(15, 40, 30, 15)),
)
RECALL_PHASE = Phase(
    steps=100,
    warmup_steps=5,
    peak_learning_rate=4e-4,
    blend=Blend(RECALL, row_weights=(30, 40, 20, 10)),
)
REVIEW_PHASE = Phase(
    steps=200,
    warmup_steps=10,
    peak_learning_rate=5e-4,
    blend=Blend(REVIEW, row_weights=(30, 40, 20, 10)),
)
DEMO_RECIPE = Recipe(
    (
        FOUNDATION_PHASE,
        REFINEMENT_PHASE,
        STRUCTURED_PHASE,
        READING_PHASE,
        SETTLING_PHASE,
        RECALL_PHASE,
        REVIEW_PHASE,
    )
)
