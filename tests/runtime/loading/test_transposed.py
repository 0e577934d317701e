"""Matrices that lie `[inputs, outputs]` are read as if they lay as all others do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octavo.errors import ModelInvalidError
from octavo.loading import SafetensorsWeights, Slice
from octavo.loading.transposed import TransposedModules

LYING = torch.arange(6.0).reshape(2, 3)
WANTED = {"turned.weight": (3, 2)}


@pytest.fixture
def source(tmp_path: Path) -> SafetensorsWeights:
    tensors = {
        "turned.weight": LYING,
        "turned.bias": torch.ones(3),
        "straight.weight": LYING.clone(),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return SafetensorsWeights(tmp_path)


def test_weights_of_these_modules_alone_are_turned(source: SafetensorsWeights) -> None:
    view = TransposedModules(source, ["turned"])
    assert view.shape("turned.weight") == (3, 2)
    assert view.shape("straight.weight") == (2, 3)
    assert view.shape("absent.weight") is None
    shapes = {**WANTED, "turned.bias": (3,), "straight.weight": (2, 3)}
    turned, bias, straight = view.tensors(shapes)
    assert torch.equal(turned, LYING.T)
    assert bias.shape == (3,)
    assert torch.equal(straight, LYING)


@pytest.mark.parametrize("part", [Slice(0, 1, 3), Slice(1, 1, 2)])
def test_a_part_is_of_the_turned_matrix(part: Slice, source: SafetensorsWeights) -> None:
    (found,) = TransposedModules(source, ["turned"]).tensors(WANTED, part)
    assert torch.equal(found, LYING.T[part.of((3, 2))])


def test_one_that_lies_otherwise_is_told_as_it_lies(source: SafetensorsWeights) -> None:
    view = TransposedModules(source, ["turned"])
    view.tensors({"turned.weight": (2, 3), "turned.bias": (3,), "straight.weight": (2, 3)})
    with pytest.raises(ModelInvalidError, match=r"turned\.weight has shape \[2, 3\].*\[3, 2\]"):
        view.finish(lambda _: False)
