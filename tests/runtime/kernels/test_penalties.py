from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.reference.sampling import penalties as reference
from octavo.sampling.processors.penalties import TokenCounts
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.sampling import penalties as gpu

BOTH = pytest.mark.parametrize("module", [reference, gpu], ids=["reference", "kernel"])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 5), st.integers(1, 400) | st.just(4099), st.data())
def test_logits_are_penalised_as_on_the_host(
    device: torch.device, batch: int, vocab: int, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(batch * 7919 + vocab)
    logits = torch.randn(batch, vocab, generator=generator) * 4
    counts = torch.zeros(8, vocab, dtype=torch.int16, device=device)
    state_rows = data.draw(st.permutations(range(8)))[:batch]
    penalty = st.sampled_from([(0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (0.0, -1.5, 1.0), (1.0, 0.3, 1.7)])
    settings_of_rows = [data.draw(penalty) for _ in range(batch)]
    states = []
    for row, (presence, frequency, repetition) in zip(state_rows, settings_of_rows, strict=True):
        prompt, output = torch.randint(0, vocab, (2, 9), generator=generator)
        reference.set_tokens(counts, row, prompt.to(device), output.to(device))
        params = SamplingParams(
            presence_penalty=presence, frequency_penalty=frequency, repetition_penalty=repetition
        )
        states.append(SamplingState(params, None, prompt.tolist(), output.tolist()))
    columns = torch.tensor(settings_of_rows, dtype=torch.float32).reshape(-1, 3).to(device)
    rows = torch.tensor(state_rows, dtype=torch.int32, device=device)
    expected = logits.clone()
    for row, state in enumerate(states):
        TokenCounts(state).shape(expected[row].numpy())

    for module in (reference, gpu):
        got = logits.to(device, copy=True)
        module.apply_penalties(got, counts, *(c.contiguous() for c in columns.unbind(1)), rows)
        torch.testing.assert_close(got.cpu(), expected)


@BOTH
def test_padding_rows_stay_as_they_are(device: torch.device, module: object) -> None:
    logits = torch.ones(2, 10, device=device)
    counts = torch.full((1, 10), 3, dtype=torch.int16, device=device)
    ones = torch.ones(2, device=device)
    rows = torch.tensor([-1, 0], dtype=torch.int32, device=device)
    module.apply_penalties(logits, counts, ones, ones, ones, rows)  # type: ignore[attr-defined]
    assert logits[0].tolist() == [1.0] * 10
    assert logits[1].tolist() == [-3.0] * 10


@BOTH
def test_sampled_tokens_are_counted_once_each_and_never_overflow(
    device: torch.device, module: object
) -> None:
    counts = torch.zeros(4, 6, dtype=torch.int16, device=device)
    counts[0, 0] = 7
    counts[1, 5] = reference.MAX_COUNT
    counts[2, 1] = reference.IN_PROMPT
    counts[3, 2] = -1  # in the prompt, and as often in the output as can be counted
    rows = torch.tensor([2, -1, 1, 3, -1, 0], dtype=torch.int32, device=device)
    tokens = torch.tensor([1, 0, 5, 2, -1, 0], device=device)
    module.count_tokens(counts, rows, tokens)  # type: ignore[attr-defined]
    expected = torch.zeros(4, 6, dtype=torch.int16)
    expected[0, 0] = 8
    expected[1, 5] = reference.MAX_COUNT
    expected[2, 1] = reference.IN_PROMPT + 1
    expected[3, 2] = -1
    assert torch.equal(counts.cpu(), expected)


def test_a_row_starts_anew_from_prompt_and_output(device: torch.device) -> None:
    counts = torch.full((2, 5), 9, dtype=torch.int16, device=device)
    prompt, output = torch.tensor([1, 3, 3]), torch.tensor([3, 4, 4])
    gpu.set_tokens(counts, 1, prompt.to(device), output.to(device))
    marked = reference.IN_PROMPT
    assert counts.tolist() == [[9] * 5, [0, marked, 0, marked + 1, 2]]


def test_logits_of_another_dtype_are_refused(device: torch.device) -> None:
    counts = torch.zeros(1, 4, dtype=torch.int16, device=device)
    ones = torch.ones(1, device=device)
    with pytest.raises(ValueError, match="float16"):
        gpu.apply_penalties(
            torch.ones(1, 4, dtype=torch.float16, device=device), counts, ones, ones, ones, ones
        )
