from __future__ import annotations

import torch

from octavo.loading import DummyWeights

CPU = torch.device("cpu")


def test_weights_depend_on_name_and_seed_alone() -> None:
    one, two = (DummyWeights(dtype=torch.float32, device=CPU, seed=4) for _ in range(2))
    one.take("other", (7, 7))
    assert torch.equal(one.take("w", (30, 40)), two.take("w", (30, 40)))
    assert not torch.equal(one.take("w", (30, 40)), one.take("v", (30, 40)))
    other_seed = DummyWeights(dtype=torch.float32, device=CPU, seed=5)
    assert not torch.equal(other_seed.take("w", (30, 40)), one.take("w", (30, 40)))


def test_weights_look_like_fresh_ones_and_rows_differ() -> None:
    source = DummyWeights(dtype=torch.float32, device=CPU, seed=0)
    weight = source.take("w", (3000, 1024))  # longer than the block that is repeated
    assert abs(float(weight.std()) - 0.02) < 1e-3
    assert len(torch.unique(weight[:, 0])) > 2500
    assert torch.equal(source.take("a.norm.weight", (3,)), torch.ones(3))
    assert torch.equal(source.take("a.bias", (3,)), torch.zeros(3))
