"""Slopes of ALiBi are those of transformers' classes, for any number of heads."""

from __future__ import annotations

import pytest
import torch
from transformers.models.bloom import modeling_bloom
from transformers.models.falcon import modeling_falcon
from transformers.models.mpt import modeling_mpt

from octavo.models.alibi import alibi_slopes, mpt_slopes, rounded_to_bfloat16


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 16, 24, 32, 40, 71, 112, 128])
def test_slopes_are_those_of_transformers(heads: int) -> None:
    two_tokens = torch.ones(1, 2)
    bloom = modeling_bloom.build_alibi_tensor(two_tokens, heads, torch.float32)
    torch.testing.assert_close(torch.tensor(alibi_slopes(heads)), bloom[:, 0, 1])
    falcon = modeling_falcon.build_alibi_tensor(two_tokens, heads, torch.float32)
    torch.testing.assert_close(
        torch.tensor(rounded_to_bfloat16(alibi_slopes(heads))), falcon[:, 0, 1], rtol=0.0, atol=0.0
    )
    for exponent in (8, 16):
        mpt = modeling_mpt.build_mpt_alibi_tensor(heads, 2, exponent)
        torch.testing.assert_close(torch.tensor(mpt_slopes(heads, exponent)), -mpt[:, 0, 0])
