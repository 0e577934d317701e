from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.reference.sampling import logprobs as reference
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.sampling import logprobs as gpu


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 5),
    st.integers(1, 500) | st.sampled_from([4096, 9001]),
    st.integers(0, 6),
    st.sampled_from(FLOATS),
)
def test_logprobs_and_ranks_are_those_of_the_softmax(
    device: torch.device, rows: int, vocab: int, k: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(rows * 7919 + vocab)
    logits = (torch.randn(rows, vocab, generator=generator) * 5).to(dtype).to(device)
    tokens = torch.randint(0, vocab, (rows,), generator=generator).to(device)
    expected = torch.log_softmax(logits.float(), dim=-1)

    with poisoned_memory():
        got = gpu.top_logprobs(logits, tokens, k)
    for result in (got, reference.top_logprobs(logits, tokens, k)):
        own = expected.gather(1, tokens[:, None])[:, 0]
        torch.testing.assert_close(result.own_logprob, own, rtol=1e-5, atol=1e-5)
        own_logit = logits.gather(1, tokens[:, None])
        assert torch.equal(result.own_rank, (logits > own_logit).sum(dim=1) + 1)
        top = expected.gather(1, result.top_ids)
        torch.testing.assert_close(result.top_logprobs, top, rtol=1e-5, atol=1e-5)
        assert torch.equal(top, expected.topk(min(k, vocab)).values)


def test_masked_tokens_leave_a_distribution_of_the_others(device: torch.device) -> None:
    logits = torch.full((1, 6000), float("-inf"), device=device)
    logits[0, [5, 5000]] = 1.0
    result = gpu.top_logprobs(logits, torch.tensor([5000], device=device), 2)
    torch.testing.assert_close(result.own_logprob.cpu(), torch.tensor([0.5]).log())
    assert result.own_rank.item() == 1
    assert sorted(result.top_ids[0].tolist()) == [5, 5000]
