from __future__ import annotations

import torch

from octavo.loading import DummyWeights, Slice

CPU = torch.device("cpu")


def take(source: DummyWeights, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    (tensor,) = source.tensors({name: shape})
    return tensor


def test_weights_depend_on_name_and_seed_alone() -> None:
    one, two = (DummyWeights(dtype=torch.float32, device=CPU, seed=4) for _ in range(2))
    one.tensors({"other": (7, 7)})
    assert torch.equal(take(one, "w", (30, 40)), take(two, "w", (30, 40)))
    assert not torch.equal(take(one, "w", (30, 40)), take(one, "v", (30, 40)))
    other_seed = DummyWeights(dtype=torch.float32, device=CPU, seed=5)
    assert not torch.equal(take(other_seed, "w", (30, 40)), take(one, "w", (30, 40)))


def test_weights_look_like_fresh_ones_and_rows_differ() -> None:
    source = DummyWeights(dtype=torch.float32, device=CPU, seed=0)
    weight = take(source, "w", (3000, 1024))  # longer than the block that is repeated
    assert abs(float(weight.std()) - 0.02) < 1e-3
    assert len(torch.unique(weight[:, 0])) > 2500
    assert torch.equal(take(source, "a.norm.weight", (3,)), torch.ones(3))
    assert torch.equal(take(source, "a.ln_f.weight", (3,)), torch.ones(3))
    assert torch.equal(take(source, "a.bias", (3,)), torch.zeros(3))


def test_a_part_is_that_of_the_whole() -> None:
    source = DummyWeights(dtype=torch.float32, device=CPU, seed=4)
    (part,) = source.tensors({"w": (30, 40)}, Slice(1, 10, 20))
    assert torch.equal(part, take(source, "w", (30, 40))[:, 10:20])


def test_numbers_are_those_of_the_dtype_that_a_checkpoint_would_have() -> None:
    source = DummyWeights(dtype=torch.float32, device=CPU, seed=4, stored=torch.bfloat16)
    (made,) = source.tensors({"a.weight": (64, 64)})
    assert made.dtype is torch.float32
    assert torch.equal(made.bfloat16().float(), made)
    (wide,) = DummyWeights(dtype=torch.float32, device=CPU, seed=4).tensors({"a.weight": (64, 64)})
    assert torch.equal(wide.bfloat16().float(), made)
