"""Log-probabilities of the model's own distribution: of the sampled token, its rank, and the best ones.

One pass over the vocabulary gives normaliser, own logit and rank; nothing of the vocabulary's size is
written. The best ones are torch's `topk`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.aligned_rows import readable_width
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.streaming import LOGPROB_TILE
from octavo.kernels.reference.sampling.logprobs import TopLogprobs

__all__ = ["TopLogprobs", "top_logprobs"]


def top_logprobs(logits: torch.Tensor, token_ids: torch.Tensor, k: int) -> TopLogprobs:
    """Log-probabilities of `token_ids` `[rows]` and of the k best under `logits` `[rows, vocab]`.

    Computed in float32 from any float dtype; k above the vocabulary's size counts as that.

    Raises:
        ValueError: The rows of `logits` are not contiguous.
    """
    if logits.shape[1] > 1 and logits.stride(1) != 1:
        raise ValueError(f"logits has strides {logits.stride()}; the last must be 1")
    rows, vocab = logits.shape
    normaliser = torch.empty(rows, dtype=torch.float32, device=logits.device)
    own = torch.empty_like(normaliser)
    rank = torch.empty(rows, dtype=torch.int64, device=logits.device)
    if rows:
        _own_logprob[(rows,)](
            logits, logits.stride(0), token_ids, normaliser, own, rank,
            **_constants(vocab, readable_width(logits)),
            **launch_options(LOGPROB_TILE.num_warps, 1),
        )  # fmt: skip
    best, ids = torch.topk(logits, min(k, vocab), dim=-1)
    return TopLogprobs(own, rank, ids, best.float() - normaliser[:, None])


def _constants(vocab: int, readable: int) -> dict[str, int]:
    return {"VOCAB": vocab, "READABLE": readable, "COLUMNS": LOGPROB_TILE.columns}


@triton.jit
def _own_logprob(
    logits, row_stride, token_ids, normaliser, own, rank,
    VOCAB: tl.constexpr, READABLE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    source = logits + row * row_stride
    mine = tl.load(source + tl.load(token_ids + row)).to(tl.float32)
    # Each lane keeps its own running maximum and sum (Milakov and Gimelshein, 2018).
    top = tl.full([COLUMNS], float("-inf"), tl.float32)
    mass = tl.zeros([COLUMNS], tl.float32)
    better = tl.zeros([COLUMNS], tl.int32)
    for start in range(0, VOCAB, COLUMNS):
        token = start + tl.arange(0, COLUMNS)
        scores = tl.load(source + token, token < READABLE, other=float("-inf")).to(tl.float32)
        if READABLE != VOCAB:
            scores = tl.where(token < VOCAB, scores, float("-inf"))
        higher = tl.maximum(top, scores)
        # A lane that has seen nothing but -inf has no finite maximum to subtract.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        mass = mass * tl.exp(top - base) + tl.exp(scores - base)
        top = higher
        better += (scores > mine).to(tl.int32)
    best = tl.max(top)
    total = best + tl.log(tl.sum(mass * tl.exp(top - best)))
    tl.store(normaliser + row, total)
    tl.store(own + row, mine - total)
    tl.store(rank + row, tl.sum(better).to(tl.int64) + 1)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    outputs = {"normaliser": "*fp32", "own": "*fp32", "rank": "*i64"}
    for name, vocab, readable in (("bf16", 151936, 151936), ("odd-bf16", 32001, 32016)):
        yield ShippedConfiguration(
            name=name,
            kernel=_own_logprob,
            arguments={"logits": "*bf16", "row_stride": "i32", "token_ids": "*i64", **outputs},
            constants=_constants(vocab, readable),
            num_warps=LOGPROB_TILE.num_warps,
            num_stages=1,
            divisible=frozenset({"row_stride"}),
        )
