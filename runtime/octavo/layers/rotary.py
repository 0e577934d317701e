"""Rotary position embedding (Su et al., 2021) with the scalings that the supported families use."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its established name)


class RopeScaling(enum.Enum):
    """`DYNAMIC` and `LONGROPE` turn by other frequencies once a sequence is longer than the original context.
    Keys in a cache are turned already, so every sequence gets the same: `DYNAMIC` runs up to there, where the
    frequencies stay, and so does `LONGROPE` unless more positions are asked for, which its long factors
    know."""

    NONE = "default"
    LINEAR = "linear"
    DYNAMIC = "dynamic"
    LLAMA3 = "llama3"
    YARN = "yarn"
    LONGROPE = "longrope"


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """How far each pair of channels turns per position; the fields are config.json's.

    Args:
        theta: Base wavelength.
        width: Channels of a head that turn, its first ones; None: all; 0 for a model that turns none, or
            turns them itself.
        factor: By how much the context was stretched.
        original_max_position: Context of the pre-training, in tokens (llama3, yarn, longrope).
        low_freq_factor, high_freq_factor: Borders of llama3's interpolation.
        beta_fast, beta_slow: Borders of YaRN's ramp, in rotations over the original context.
        truncate: Whether YaRN's ramp begins and ends at whole pairs.
        mscale, mscale_all_dim: Weigh the factor on cos and sin that YaRN derives; 0 is none.
        attention_factor: On cos and sin (yarn, longrope); None derives it from `factor`.
        short_factors, long_factors: LongRoPE's, of each pair of channels that turn: for sequences up to the
            original context, and for longer ones.
    """

    theta: float = 10_000.0
    width: int | None = None
    scaling: RopeScaling = RopeScaling.NONE
    factor: float = 1.0
    original_max_position: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()


def context_length(config: RopeConfig, max_position: int) -> int:
    """Tokens that a model knows positions for.

    A scaling that stretches reaches `factor` times the original context, whether or not `max_position`, the
    config.json's `max_position_embeddings`, was raised with it. Llama 3's was, and to less than that.
    """
    original = config.original_max_position
    stretched = int(config.factor * original)
    match config.scaling:
        case RopeScaling.LINEAR | RopeScaling.YARN:
            return max(max_position, stretched)
        case RopeScaling.LLAMA3:
            return max_position if max_position > original else max(max_position, stretched)
        case RopeScaling.NONE | RopeScaling.DYNAMIC | RopeScaling.LONGROPE:
            return max_position


def default_context(config: RopeConfig, max_position: int) -> int:
    """Tokens of a sequence where nobody asks for more. LongRoPE's long factors change what short sequences
    are answered with, so they are for those who ask."""
    if config.scaling is RopeScaling.LONGROPE:
        return min(max_position, config.original_max_position)
    return context_length(config, max_position)


def paired_channels(head_dim: int, width: int | None) -> torch.Tensor:
    """See `channel_order`."""
    return torch.tensor(channel_order(head_dim, width))


def channel_order(head_dim: int, width: int | None) -> np.ndarray:
    """The order of a head's channels, `[head_dim]` int64, in which those of a pair are half a head apart.

    Checkpoints keep the `width` channels that turn first, and pair those `width / 2` apart. Kernels turn
    whole heads: in this order the channels that stay are pairs, too, whose angle is zero. Scores are sums
    over channels, so queries and keys may be in any order that both have.
    """
    turning = head_dim if width is None else width
    channels = np.arange(head_dim)
    if turning == 0:
        return channels
    pairs = (channels[:turning].reshape(2, -1), channels[turning:].reshape(2, -1))
    return np.concatenate(pairs, axis=1).reshape(-1)


def inverse_frequencies(
    config: RopeConfig, width: int, num_positions: int | None = None
) -> torch.Tensor:
    """Radians per position for each channel pair, `[width / 2]` float32, of the `width` channels that turn.

    `num_positions` is of the longest sequence; None: no more than the original context.

    Operation by operation as transformers computes them: at position 100,000 a last bit of a frequency is a
    hundredth of a radian.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.int64).to(torch.float32) / width
    wavelengths = config.theta**exponents
    plain = 1.0 / wavelengths
    match config.scaling:
        case RopeScaling.LINEAR:
            return plain / config.factor
        case RopeScaling.LLAMA3:
            return _llama3(config, plain)
        case RopeScaling.YARN:
            return _yarn(config, wavelengths, width)
        case RopeScaling.LONGROPE:
            is_long = (num_positions or 0) > config.original_max_position
            factors = config.long_factors if is_long else config.short_factors
            return 1.0 / (torch.tensor(factors, dtype=torch.float32) * wavelengths)
        case RopeScaling.NONE | RopeScaling.DYNAMIC:
            return plain


def _llama3(config: RopeConfig, plain: torch.Tensor) -> torch.Tensor:
    """Long wavelengths are stretched, short ones kept, those between blended (Llama 3.1)."""
    wavelengths = 2 * math.pi / plain
    turns = config.original_max_position / wavelengths
    span = config.high_freq_factor - config.low_freq_factor
    keep = ((turns - config.low_freq_factor) / span).clamp(0.0, 1.0)
    return (1.0 - keep) * plain / config.factor + keep * plain


def _yarn(config: RopeConfig, wavelengths: torch.Tensor, width: int) -> torch.Tensor:
    """NTK by parts (Peng et al., 2023): a linear ramp over channel pairs between two rotation counts."""

    def pair_with_rotations(rotations: float) -> float:
        context = config.original_max_position / (rotations * 2 * math.pi)
        return width * math.log(context) / (2 * math.log(config.theta))

    low = pair_with_rotations(config.beta_fast)
    high = pair_with_rotations(config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    if low == high:
        high += 0.001
    pairs = torch.arange(width // 2, dtype=torch.float32)
    keep = 1.0 - ((pairs - low) / (high - low)).clamp(0.0, 1.0)
    return 1.0 / (config.factor * wavelengths) * (1.0 - keep) + 1.0 / wavelengths * keep


def attention_factor(config: RopeConfig) -> float:
    """What cos and sin are multiplied by: 1 except for YaRN and LongRoPE."""
    if config.scaling not in (RopeScaling.YARN, RopeScaling.LONGROPE):
        return 1.0
    if config.attention_factor is not None:
        return config.attention_factor
    if config.factor <= 1.0:
        return 1.0
    stretch = math.log(config.factor)
    if config.scaling is RopeScaling.LONGROPE:
        return math.sqrt(1.0 + stretch / math.log(config.original_max_position))
    if config.mscale and config.mscale_all_dim:
        return (0.1 * config.mscale * stretch + 1.0) / (0.1 * config.mscale_all_dim * stretch + 1.0)
    return 0.1 * stretch + 1.0


class RotaryTable:
    """cos and sin of every position, computed once.

    `table` is `[positions, 2, 1, head_dim]`, for channels in the order of `paired_channels`. The sine's
    first half is negated, so that rotating is `x * cos + roll(x) * sin`: three in-place operations instead
    of seven.
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
        width = head_dim if config.width is None else config.width
        angles = torch.outer(positions, inverse_frequencies(config, width, num_positions))
        factor = attention_factor(config)
        staying = (0, (head_dim - width) // 2)
        cos = F.pad(angles.cos() * factor, staying, value=1.0)
        sin = F.pad(angles.sin() * factor, staying)
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
