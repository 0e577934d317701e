"""Rotary position embedding (Su et al., 2021) with the scalings that the supported families use."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import torch


class RopeScaling(enum.Enum):
    NONE = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    YARN = "yarn"


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """How far each pair of channels turns per position; the fields are config.json's.

    Args:
        theta: Base wavelength.
        factor: By how much the context was stretched.
        original_max_position: Context of the pre-training, in tokens (llama3, yarn).
        low_freq_factor, high_freq_factor: Borders of llama3's interpolation.
        beta_fast, beta_slow: Borders of YaRN's ramp, in rotations over the original context.
        attention_factor: YaRN's factor on cos and sin; None derives it from `factor`.
    """

    theta: float = 10_000.0
    scaling: RopeScaling = RopeScaling.NONE
    factor: float = 1.0
    original_max_position: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None


def inverse_frequencies(config: RopeConfig, head_dim: int) -> torch.Tensor:
    """Radians per position for each channel pair, `[head_dim / 2]` float32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float32) / head_dim
    plain = 1.0 / (config.theta**exponents)
    if config.scaling is RopeScaling.LINEAR:
        return plain / config.factor
    if config.scaling is RopeScaling.LLAMA3:
        return _llama3(config, plain)
    if config.scaling is RopeScaling.YARN:
        return _yarn(config, plain, head_dim)
    return plain


def _llama3(config: RopeConfig, plain: torch.Tensor) -> torch.Tensor:
    """Long wavelengths are stretched, short ones kept, those between blended (Llama 3.1)."""
    wavelengths = 2 * math.pi / plain
    turns = config.original_max_position / wavelengths
    span = config.high_freq_factor - config.low_freq_factor
    keep = ((turns - config.low_freq_factor) / span).clamp(0.0, 1.0)
    return (1.0 - keep) * plain / config.factor + keep * plain


def _yarn(config: RopeConfig, plain: torch.Tensor, head_dim: int) -> torch.Tensor:
    """NTK by parts (Peng et al., 2023): a linear ramp over channel pairs between two rotation counts."""

    def pair_with_rotations(rotations: float) -> float:
        context = config.original_max_position / (rotations * 2 * math.pi)
        return head_dim * math.log(context) / (2 * math.log(config.theta))

    low = max(math.floor(pair_with_rotations(config.beta_fast)), 0)
    high = min(math.ceil(pair_with_rotations(config.beta_slow)), head_dim - 1)
    pairs = torch.arange(head_dim // 2, dtype=torch.float32)
    stretch = ((pairs - low) / max(high - low, 0.001)).clamp(0.0, 1.0)
    return plain / config.factor * stretch + plain * (1.0 - stretch)


def attention_factor(config: RopeConfig) -> float:
    """What cos and sin are multiplied by: 1 except for YaRN."""
    if config.scaling is not RopeScaling.YARN:
        return 1.0
    if config.attention_factor is not None:
        return config.attention_factor
    return 1.0 if config.factor <= 1.0 else 0.1 * math.log(config.factor) + 1.0


class RotaryTable:
    """cos and sin of every position, computed once.

    `table` is `[positions, 2, 1, head_dim]`. The sine's first half is negated, so that rotating is
    `x * cos + roll(x) * sin`: three in-place operations instead of seven.
    """

    __slots__ = ("_half", "table")

    def __init__(
        self,
        config: RopeConfig,
        head_dim: int,
        num_positions: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        positions = torch.arange(num_positions, dtype=torch.float32)
        angles = torch.outer(positions, inverse_frequencies(config, head_dim))
        factor = attention_factor(config)
        cos, sin = angles.cos() * factor, angles.sin() * factor
        table = torch.stack([torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)], dim=1)
        self.table = table.unsqueeze(2).to(device=device, dtype=dtype)
        self._half = head_dim // 2

    def at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, each `[tokens, 1, head_dim]`, for `positions` `[tokens]` int64."""
        rows = self.table.index_select(0, positions)
        return rows[:, 0], rows[:, 1]

    def rotate_(self, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Rotates `heads` `[tokens, heads, head_dim]` in place."""
        rolled = heads.roll(self._half, -1)
        return heads.mul_(cos).addcmul_(rolled, sin)
