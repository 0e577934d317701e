"""Windows of encoders against a dense mask: sequences that are longer than what attends as one product."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.layers.encoder_attention import EncoderStep

HEADS, HEAD_DIM = 2, 8


def dense(heads: torch.Tensor, window: int | None, scale: float) -> torch.Tensor:
    """Of one sequence, `[tokens, 3 * heads, head_dim]`, spelt out in float64."""
    query, key, value = heads.double().view(len(heads), 3, HEADS, HEAD_DIM).permute(1, 2, 0, 3)
    scores = query @ key.transpose(1, 2) * scale
    if window is not None:
        places = torch.arange(len(heads))
        is_far = (places[:, None] - places).abs() >= window
        scores = scores.masked_fill(is_far, float("-inf"))
    return torch.matmul(scores.softmax(dim=-1), value).transpose(0, 1).flatten(1)


@pytest.mark.parametrize("window", [None, 1, 2, 65, 256, 300])
@pytest.mark.parametrize("lengths", [(700,), (1, 255, 256, 257, 257), (513, 513, 514)])
def test_each_token_sees_its_neighbours_alone(lengths: tuple[int, ...], window: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = sum(lengths)
    heads = 2 * torch.randn(tokens, 3 * HEADS, HEAD_DIM, generator=generator)
    none = torch.zeros(tokens, dtype=torch.int64)
    options = AttentionOptions(scale=0.4, sliding_window=window)
    found = EncoderStep(none, none, lengths).attend(heads, options)
    expected = [dense(part, window, 0.4) for part in torch.split(heads, list(lengths))]
    torch.testing.assert_close(found, torch.cat(expected).float(), rtol=1e-5, atol=1e-5)
