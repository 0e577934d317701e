"""Penalties for tokens that a sequence holds already, and the counts that they look at.

Presence and frequency look at the output (OpenAI's definition), repetition at prompt and output (Keskar et
al., 2019). Counts live on the device, one row for each running sequence:
`token_counts` `[state_rows, vocab]` int16, whose low 15 bits are the times that a token occurs in the
output, 32,767 at most, and whose sign bit says that the prompt holds it.
"""

from __future__ import annotations

from typing import Final

import torch

IN_PROMPT: Final = -(2**15)
MAX_COUNT: Final = 2**15 - 1


def apply_penalties(
    logits: torch.Tensor,
    token_counts: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
    rows: torch.Tensor,
) -> None:
    """Penalises `logits` `[batch, vocab]` float32 in place: first repetition, then presence and frequency.

    Args:
        presence, frequency, repetition: `[batch]` float32; 0, 0 and 1 are off.
        rows: `[batch]` int32, the row of `token_counts` of each row of logits; below zero for a padding
            row, which stays.
    """
    counts = token_counts[rows.clamp_min(0).long()]
    output = (counts & MAX_COUNT).float()
    factor = repetition[:, None]
    repeated = torch.where(logits > 0, logits / factor, logits * factor)
    penalised = torch.where(counts != 0, repeated, logits)
    flat = presence[:, None] + frequency[:, None] * output
    penalised = torch.where(output > 0, penalised - flat, penalised)
    logits.copy_(torch.where((rows >= 0)[:, None], penalised, logits))


def count_tokens(token_counts: torch.Tensor, rows: torch.Tensor, token_ids: torch.Tensor) -> None:
    """Adds one token to the output of each row.

    Args:
        rows: `[batch]` int32, all different; below zero for a padding row, which changes nothing.
        token_ids: `[batch]` integer.
    """
    is_padding = rows < 0
    index = rows.clamp_min(0).long(), token_ids.long().clamp_min(0)
    old = token_counts[index]
    step = ((old & MAX_COUNT) != MAX_COUNT) & ~is_padding
    # Padding adds zero to a place that another row may own.
    token_counts.index_put_(index, step.to(torch.int16), accumulate=True)


def set_tokens(
    token_counts: torch.Tensor, row: int, prompt_ids: torch.Tensor, output_ids: torch.Tensor
) -> None:
    """Starts a row anew, for a sequence that begins or comes back after a preemption.

    Args:
        prompt_ids, output_ids: `[tokens]` int64 on the device of `token_counts`.
    """
    vocab = token_counts.shape[1]
    counts = torch.zeros(vocab, dtype=torch.int32, device=token_counts.device)
    counts.scatter_add_(0, output_ids, torch.ones_like(output_ids, dtype=torch.int32))
    line = counts.clamp_(max=MAX_COUNT).to(torch.int16)
    is_prompt = torch.zeros_like(line).index_fill_(0, prompt_ids, IN_PROMPT)
    token_counts[row] = line | is_prompt
