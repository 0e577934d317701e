"""Sampling. Draws tokens by the Gumbel-max trick with random numbers that are a function of their place.

`argmax(logit / temperature + gumbel)` over the kept tokens is a draw from their softmax (Gumbel, 1954).
The noise of a token comes from Philox4x32-10 (Salmon et al., 2011) keyed by the row's seed, with position
and token id as the counter: a row's token depends on nothing else in the batch, and every device draws
the same one.

Filters apply in this order: temperature, top-k, top-p of what top-k left, min-p. Tokens are ranked by
their logits, and those with equal logits stay or go together: a token is kept by top-k when fewer than k
tokens are better, by top-p when the better ones hold less than p of the mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from octavo.kernels.reference.sampling.random_bits import random_bits

# Masses are summed as integers in units of 2**-44 of the best token's: exact in any order. 2**19 tokens
# fit into 63 bits.
MASS_BITS: Final = 44
MAX_VOCABULARY: Final = 2**19
MIN_TEMPERATURE: Final = 1e-5


@dataclass(frozen=True, slots=True)
class SamplingTensors:
    """How each row is sampled; all `[rows]`, on the device of the logits.

    Args:
        temperature: float32; 0 takes the best token, the lowest id among equals.
        top_k: int32; 0 is off.
        top_p: float32; 1 is off.
        min_p: float32, share of the best token's probability; 0 is off.
        seed: int64, key of the row's random stream.
        position: int64, index of the token in the output: the place in the stream.
        has_filters: A host's promise when False: no row has a top_k, top_p or min_p, which saves a launch.
    """

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    seed: torch.Tensor
    position: torch.Tensor
    has_filters: bool = True


def sample(logits: torch.Tensor, tensors: SamplingTensors) -> torch.Tensor:
    """One token for each row: `[rows, vocab]` of any float dtype to `[rows]` int64; never one with NaN.

    Raises:
        ValueError: The vocabulary has more than 2**19 tokens.
    """
    vocab = logits.shape[1]
    if vocab > MAX_VOCABULARY:
        raise ValueError(f"vocabulary of {vocab} tokens; sampling holds {MAX_VOCABULARY}")
    scores = logits.float()
    scores = scores.where(~scores.isnan(), float("-inf"))
    inverse = 1.0 / tensors.temperature.clamp_min(MIN_TEMPERATURE)
    noise = gumbel(random_bits(tensors.seed, tensors.position, vocab))
    perturbed = scores * inverse[:, None] + noise
    if tensors.has_filters:
        perturbed = perturbed.where(_kept(scores, inverse, tensors), float("-inf"))
    is_greedy = (tensors.temperature == 0)[:, None]
    return torch.where(is_greedy, scores, perturbed).argmax(dim=-1)


def _kept(scores: torch.Tensor, inverse: torch.Tensor, tensors: SamplingTensors) -> torch.Tensor:
    """Which tokens the filters leave, `[rows, vocab]` bool; the best one always."""
    vocab = scores.shape[1]
    ranked, order = scores.sort(dim=-1, descending=True)
    ranked = ranked + 0.0  # no negative zero: equal logits are equal
    weights = ((ranked - ranked[:, :1]) * inverse[:, None]).exp()
    # Where the run of equal logits begins that a rank is in: as many tokens are better.
    better = torch.searchsorted(-ranked, -ranked, right=False)
    has_top_k = (tensors.top_k > 0) & (tensors.top_k < vocab)
    in_top_k = better < torch.where(has_top_k, tensors.top_k, vocab)[:, None]
    mass = (weights * 2.0**MASS_BITS).to(torch.int64) * in_top_k
    mass_above = (mass.cumsum(dim=-1) - mass).gather(1, better).double()
    limit = tensors.top_p.double()[:, None] * mass.sum(dim=-1, keepdim=True).double()
    in_top_p = (mass_above < limit) | (tensors.top_p >= 1.0)[:, None]
    kept = in_top_k & in_top_p & (weights >= tensors.min_p[:, None]) | (better == 0)
    return torch.zeros_like(kept).scatter(1, order, kept)


def gumbel(bits: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise of random words, float32.

    It is -log of an exponential variable whose small values, which win, keep their precision.
    """
    uniform = (bits.float() + 0.5) * 2.0**-32
    uniform = uniform.clamp_max(1.0 - 2.0**-24)
    series = uniform * (1 + uniform * (1 / 2 + uniform * (1 / 3 + uniform * (1 / 4 + uniform / 5))))
    exponential = torch.where(uniform < 2.0**-6, series, -(1 - uniform).log())
    return -exponential.log()
