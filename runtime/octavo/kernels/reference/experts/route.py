"""Routing of a mixture of experts (Shazeer et al., 2017): who computes what, as lists for grouped products.

Each token picks experts; what the experts are to compute is then written down expert by expert, cut into
tiles of equally many rows, so that one launch can work through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class ExpertRouting:
    """The work of all experts over `tokens` rows that chose `per_token` experts each.

    Choice `token * per_token + i` is that token's i-th best expert; a *place* is an index into `order`.
    Padding rows choose nobody: no tile names them, and nothing is read or computed for them.

    Args:
        shares: `[tokens, per_token]` float32, of each choice in its token's output; 0 in padding rows.
        order: `[tokens * per_token]` int32, all choices by expert, and an expert's by token. Places that
            are in no tile, behind the others, are without meaning.
        tiles: `[num_tiles(...), 3]` int32: expert, first place, end place. Tiles follow the experts; an
            expert's are full but for the last. Those that are not needed have expert -1.
        block_rows: Places in a full tile.
    """

    shares: torch.Tensor
    order: torch.Tensor
    tiles: torch.Tensor
    block_rows: int

    @property
    def per_token(self) -> int:
        return self.shares.shape[1]


def num_tiles(num_choices: int, num_experts: int, block_rows: int) -> int:
    """The most tiles that choices can fill, however they fall on the experts.

    It follows from shapes alone, so that nobody has to ask the device how many there are.
    """
    # Each expert that got any choice fills less than one tile beyond its share of the choices.
    return (num_choices + min(num_experts, num_choices) * (block_rows - 1)) // block_rows


def route_to_experts(
    logits: torch.Tensor,
    per_token: int,
    num_live: torch.Tensor | None = None,
    block_rows: int | None = None,
    *,
    is_normalised: bool = True,
) -> ExpertRouting:
    """Each token's best experts by the router's `logits` `[tokens, experts]`.

    Their shares are those of a softmax over all experts. Of equal logits the lower expert wins.

    Args:
        per_token: Experts that each token gets, at most all.
        num_live: `[1]` int32 where `logits` are: rows from there on are padding; None: none is.
        block_rows: A power of two; None: what suits the device.
        is_normalised: The chosen ones' shares are scaled to a sum of 1, which makes them a softmax over the
            chosen ones.
    """
    block_rows = block_rows or 16
    tokens, num_experts = logits.shape
    live = tokens if num_live is None else int(num_live)
    ranked, experts = torch.sort(logits[:live].float(), dim=-1, descending=True, stable=True)
    chosen = experts[:, :per_token].reshape(-1)
    counts = torch.bincount(chosen, minlength=num_experts).tolist()
    tiles, first = [], 0
    for expert, count in enumerate(counts):
        end = first + count
        tiles += [
            (expert, place, min(place + block_rows, end)) for place in range(first, end, block_rows)
        ]
        first = end
    tiles += [(-1, 0, 0)] * (num_tiles(tokens * per_token, num_experts, block_rows) - len(tiles))
    shares = torch.zeros(tokens, per_token, dtype=torch.float32, device=logits.device)
    over = per_token if is_normalised else num_experts
    shares[:live] = torch.softmax(ranked[:, :over], dim=-1)[:, :per_token]
    order = torch.full((tokens * per_token,), -1, dtype=torch.int32, device=logits.device)
    order[: len(chosen)] = torch.argsort(chosen, stable=True)
    return ExpertRouting(
        shares=shares,
        order=order,
        tiles=torch.tensor(tiles, dtype=torch.int32, device=logits.device).view(-1, 3),
        block_rows=block_rows,
    )
