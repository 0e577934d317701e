"""Random numbers that are a function of seed, position and token: what both draws of a token begin with."""

from __future__ import annotations

from typing import Protocol

import torch


class RandomBits(Protocol):
    """A module of this shape; `kernels.reference.sampling.random_bits` says what the arguments are."""

    def random_bits(
        self, seeds: torch.Tensor, positions: torch.Tensor, vocab_size: int
    ) -> torch.Tensor: ...

    def random_bits_at(
        self, seeds: torch.Tensor, positions: torch.Tensor, token_ids: torch.Tensor
    ) -> torch.Tensor: ...

    def divide_by_weights(
        self, seeds: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor
    ) -> None: ...
