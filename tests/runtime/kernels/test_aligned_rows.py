"""Rows that are apart give the tokens of rows one behind the other, whatever lies between them."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.aligned_rows import aligned_rows, readable_width
from octavo.kernels.reference.sampling import penalties as penalties_reference
from octavo.kernels.reference.sampling.sample import SamplingTensors
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.sampling import logprobs, penalties
from octavo.kernels.gpu.sampling import sample as sampling

VOCAB = 2051  # two tiles of a scan; the last group holds three


def apart(rows: torch.Tensor, between: float) -> torch.Tensor:
    """The same values, `between` in the padding."""
    count, width = rows.shape
    copy = aligned_rows(count, width, dtype=rows.dtype, device=rows.device)
    torch.as_strided(copy, (count, copy.stride(0)), copy.stride()).fill_(between)
    assert readable_width(copy, 32) > width
    return copy.copy_(rows)


@pytest.mark.parametrize(
    ("rows", "readable"),
    [
        (torch.empty(3, 50), 50),
        (torch.empty(3, 64), 64),
        (aligned_rows(3, 50, dtype=torch.float16, device=torch.device("cpu")), 64),
        (torch.empty(3, 96)[:, :50], 64),
        (torch.empty(3, 64)[:, :33], 64),
        (torch.empty(3, 96)[:2, 40:90], 64),  # into the next row, which memory holds
        (torch.empty(3, 96)[:, 40:90], 50),
        (torch.empty(3 * 64 - 14).as_strided((3, 50), (64, 1)), 50),
        (torch.empty(128).as_strided((3, 50), (32, 1)), 50),
        (torch.empty(1, 50), 50),
        (torch.empty(1, 64)[:, :50], 64),
    ],
    ids=lambda value: f"{value.shape[0]}x{value.stride(0)}" if torch.is_tensor(value) else None,
)
def test_rows_are_read_no_further_than_their_memory(rows: torch.Tensor, readable: int) -> None:
    assert readable_width(rows, 32) == readable


@pytest.mark.parametrize("between", [float("nan"), 50.0])
def test_what_lies_between_rows_is_never_drawn_and_has_no_mass(
    device: torch.device, between: float
) -> None:
    cases = ((0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 40, 0.9, 0.0), (2.0, 0, 0.99, 0.01))
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(len(cases), VOCAB, generator=generator).half().to(device)
    temperature, top_k, top_p, min_p = zip(*cases, strict=True)
    stream = torch.arange(len(cases), device=device)
    how = SamplingTensors(
        torch.tensor(temperature, dtype=torch.float32, device=device),
        torch.tensor(top_k, dtype=torch.int32, device=device),
        torch.tensor(top_p, dtype=torch.float32, device=device),
        torch.tensor(min_p, dtype=torch.float32, device=device),
        stream * 7,
        stream,
    )
    tokens = sampling.sample(dense, how)
    assert torch.equal(sampling.sample(apart(dense, between), how), tokens)

    expected = logprobs.top_logprobs(dense, tokens, 3)
    got = logprobs.top_logprobs(apart(dense, between), tokens, 3)
    assert torch.equal(got.own_logprob, expected.own_logprob)
    assert torch.equal(got.own_rank, expected.own_rank)
    assert torch.equal(got.top_ids, expected.top_ids)


def test_penalties_change_nothing_between_rows(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(5)
    dense = torch.randn(2, VOCAB, generator=generator).to(device)
    seen = torch.randint(0, 3, (2, VOCAB), generator=generator, dtype=torch.int16).to(device)
    ones = torch.ones(2, device=device)
    rows = torch.tensor([1, 0], dtype=torch.int32, device=device)
    logits = apart(dense, 7.0)

    penalties.apply_penalties(logits, apart(seen, 9), ones, ones, ones * 1.5, rows)
    penalties_reference.apply_penalties(dense, seen, ones, ones, ones * 1.5, rows)

    torch.testing.assert_close(logits, dense)
    stride = logits.stride(0)
    whole = torch.as_strided(logits, (2, stride), logits.stride())
    assert (whole[:, VOCAB:] == 7.0).all()
