"""Heads in the kernels' order turn and attend as the checkpoint's do."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.layers.head_order import HeadOrder
from octavo.layers.projection import Projection
from octavo.layers.rotary import RopeConfig, RotaryTable, inverse_frequencies, paired_channels
from octavo.layers.stored_weight import plain_weight
from octavo.loading import DummyWeights, Placement

CPU = torch.device("cpu")
PLACEMENT = Placement(torch.float32, CPU)


def turned(heads: torch.Tensor, positions: torch.Tensor, config: RopeConfig) -> torch.Tensor:
    """As transformers turns the first channels of heads `[tokens, heads, head_dim]`."""
    width = config.width or heads.shape[-1]
    angles = torch.outer(positions.float(), inverse_frequencies(config, width))
    cos, sin = (torch.cat([part, part], -1)[:, None] for part in (angles.cos(), angles.sin()))
    turning, staying = heads[..., :width], heads[..., width:]
    low, high = turning.chunk(2, -1)
    return torch.cat([turning * cos + torch.cat([-high, low], -1) * sin, staying], -1)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 16).map(lambda half: 2 * half), st.data())
def test_scores_of_heads_in_the_kernels_order_are_those_of_the_checkpoints(
    head_dim: int, data: st.DataObject
) -> None:
    width = data.draw(st.none() | st.integers(1, head_dim // 2).map(lambda half: 2 * half))
    config = RopeConfig(theta=100.0, width=width)
    positions = torch.randperm(40)[:7]
    query, key = torch.randn(2, 7, 1, head_dim)
    table = RotaryTable(config, head_dim, 40, dtype=torch.float32, device=CPU)
    order = paired_channels(head_dim, width)
    assert sorted(order.tolist()) == list(range(head_dim))

    ours = [
        table.rotate_(heads[..., order], *table.at(positions)).squeeze(1) for heads in (query, key)
    ]

    theirs = [turned(heads, positions, config).squeeze(1) for heads in (query, key)]
    torch.testing.assert_close(ours[0], theirs[0][:, order])
    torch.testing.assert_close(ours[0] @ ours[1].T, theirs[0] @ theirs[1].T, rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([(1, 1), (4, 4), (6, 2), (5, 1)]), st.sampled_from([None, 2, 6]))
def test_a_grouped_product_gives_queries_keys_and_values_apart(
    heads: tuple[int, int], width: int | None
) -> None:
    """Falcon's own way to split them: each group of queries, then its key, then its value."""
    (num_heads, num_kv_heads), dim, hidden = heads, 8, 12
    order = HeadOrder(num_heads, num_kv_heads, dim, width, is_grouped=True)
    projection = Projection(
        ("p",), hidden, (num_heads * dim, *2 * (num_kv_heads * dim,)), bias=True, order=order
    )
    source = DummyWeights(dtype=torch.float32, device=CPU, seed=1)
    biased = BiasedWeights(dtype=torch.float32, device=CPU, seed=1)
    x = torch.randn(3, hidden)

    ours = plain_weight(projection, biased, PLACEMENT)

    stored = source.tensors({"p.weight": (projection.width, hidden)})[0]
    bias = biased.tensors({"p.bias": (projection.width,)})[0]
    groups = F.linear(x, stored, bias).view(3, num_kv_heads, num_heads // num_kv_heads + 2, dim)
    channels = paired_channels(dim, width)
    query, key = groups[:, :, :-2, channels], groups[:, :, -2, channels]
    parts = [part.reshape(3, -1) for part in (query, key, groups[:, :, -1])]
    torch.testing.assert_close(F.linear(x, ours.weight, ours.bias), torch.cat(parts, -1))


class BiasedWeights(DummyWeights):
    """Biases differ from place to place, too."""

    def _make(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return super()._make(name.replace(".bias", ".b"), shape)
