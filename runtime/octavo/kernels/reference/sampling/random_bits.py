"""Philox4x32-10 (Salmon et al., 2011): random numbers that are a function of seed, position and token.

The counter is (token id // 4, position's low word, its high word, 0), the key the seed's two words; the four
words of an output belong to four neighbouring tokens.
"""

from __future__ import annotations

import torch

_MASK32 = 0xFFFFFFFF


def random_bits(seeds: torch.Tensor, positions: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """A word for each token of each row, `[rows, vocab]` uint32.

    Args:
        seeds, positions: `[rows]` int64.
    """
    groups = torch.arange((vocab_size + 3) // 4, device=seeds.device)
    return philox(seeds, positions, groups[None])[:, :vocab_size].to(torch.uint32)


def random_bits_at(
    seeds: torch.Tensor, positions: torch.Tensor, token_ids: torch.Tensor
) -> torch.Tensor:
    """The words of `random_bits` for these tokens alone, `[tokens]` uint32.

    Args:
        seeds, positions, token_ids: `[tokens]` int64.
    """
    words = philox(seeds, positions, (token_ids // 4)[:, None])
    return words.gather(1, (token_ids % 4)[:, None])[:, 0].to(torch.uint32)


def divide_by_weights(seeds: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor) -> None:
    """Overwrites `weights` `[rows, vocab]` float32 with `(word + 0.5) / weight`, infinity where it is 0.

    Args:
        seeds, positions: `[rows]` int64.
    """
    words = random_bits(seeds, positions, weights.shape[1])
    torch.div(words.float() + 0.5, weights, out=weights)


def philox(seeds: torch.Tensor, positions: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """`[rows, 4 * groups]` int64 in [0, 2**32).

    Args:
        seeds, positions: `[rows]` int64.
        groups: `[rows or 1, groups]` int64, token ids divided by four.
    """
    group = groups.expand(seeds.shape[0], -1)
    words = [group, *(w.expand_as(group) for w in _words(positions)), torch.zeros_like(group)]
    keys = _words(seeds)
    for _ in range(10):
        first, third = words[0] * 0xD2511F53, words[2] * 0xCD9E8D57
        words = [
            (third >> 32 & _MASK32) ^ words[1] ^ keys[0],
            third & _MASK32,
            (first >> 32 & _MASK32) ^ words[3] ^ keys[1],
            first & _MASK32,
        ]
        keys = (keys[0] + 0x9E3779B9 & _MASK32, keys[1] + 0xBB67AE85 & _MASK32)
    return torch.stack(words, dim=-1).flatten(1)


def _words(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Low and high 32 bits, each `[rows, 1]` int64."""
    column = values.to(torch.int64)[:, None]
    return column & _MASK32, column >> 32 & _MASK32
