"""GPTQModel and Octavo read the same files alike, weight by weight and to the bit: those that are made here,
and those that GPTQModel quantises itself. `make oracles` runs this."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from octavo.loading import SafetensorsWeights
from octavo.quantization import stored_format
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint, save_word_tokenizer
from tests.support.runtime.quantised_checkpoints import (
    SHAPE,
    Tensors,
    awq_tensors,
    gptq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.scores import check_scores

needs_module(Requirement.GPTQMODEL)

from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from gptqmodel.nn_modules.qlinear import BaseQuantLinear

GROUP = 32
MODEL: dict[str, Any] = SHAPE | {"num_hidden_layers": 2}
# GPTQModel searches AWQ's clips over 64 outputs at once.
OF_WHOLE_BATCHES = MODEL | {"intermediate_size": 128, "num_key_value_heads": 4}
PRODUCTS_OF_A_LAYER = 7
BACKENDS = {"gptq": BACKEND.GPTQ_TORCH, "awq": BACKEND.AWQ_TORCH}


@pytest.fixture(autouse=True)
def its_own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its configs makes a folder to offload to, which goes when the config is collected: for the last
    ones not before the process ends. These lie among the test's own files, and go with them."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def weights_by_gptqmodel(folder: Path) -> dict[str, torch.Tensor]:
    """What each of its modules multiplies with, `[width, depth]` float16: its products with single ones."""
    method = quantization_config(folder)["quant_method"]
    model = GPTQModel.load(
        str(folder), device="cpu", backend=BACKENDS[method], dtype=torch.float16
    ).model
    with torch.inference_mode():
        return {
            name: module(torch.eye(module.in_features, dtype=torch.float16)).T
            for name, module in model.named_modules()
            if isinstance(module, BaseQuantLinear)
        }


def quantization_config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())["quantization_config"]
    return found


def check(folder: Path) -> dict[str, torch.Tensor]:
    """The weights, in full precision."""
    theirs, found = weights_by_gptqmodel(folder), {}
    stored, source = stored_format(quantization_config(folder)), SafetensorsWeights(folder)
    for name, weight in theirs.items():
        width, depth = weight.shape
        ours = stored.read(name, width, depth, source)
        assert ours is not None, name
        found[name] = ours.dequantize()
        assert torch.equal(found[name].half(), weight), name
    return found


@pytest.mark.parametrize("is_symmetric", [True, False])
@pytest.mark.parametrize("has_order", [False, True])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_files_are_read_as_gptqmodel_reads_them(
    bits: int, form: str, has_order: bool, is_symmetric: bool, tmp_path: Path
) -> None:
    make_checkpoint(tmp_path / "plain", **MODEL)
    save_word_tokenizer(tmp_path / "plain")
    order = torch.Generator().manual_seed(bits)

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        inputs = torch.randperm(weight.shape[1], generator=order) if has_order else None
        grid = round_to_grid(weight, bits, GROUP, is_symmetric=is_symmetric, order=inputs)
        return gptq_tensors(grid, bits, zero_offset=int(form == "gptq")), grid.dequantize()

    config = {"quant_method": "gptq", "checkpoint_format": form, "bits": bits, "group_size": GROUP}
    # Zeros of the older form are read of writers alone that are known to have them right.
    config |= {
        "sym": is_symmetric,
        "desc_act": has_order,
        "meta": {"quantizer": ["gptqmodel:7.7.0"]},
    }
    quantise_checkpoint(tmp_path / "plain", tmp_path / "quantised", store, config)
    assert len(check(tmp_path / "quantised")) == 2 * PRODUCTS_OF_A_LAYER


def test_awq_files_are_read_as_gptqmodel_reads_them(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "plain", **MODEL)
    save_word_tokenizer(tmp_path / "plain")

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        grid = round_to_grid(weight, 4, GROUP)
        return awq_tensors(grid), grid.dequantize()

    config = {"quant_method": "awq", "version": "gemm", "bits": 4, "group_size": GROUP}
    config |= {"zero_point": True}
    quantise_checkpoint(tmp_path / "plain", tmp_path / "quantised", store, config)
    assert len(check(tmp_path / "quantised")) == 2 * PRODUCTS_OF_A_LAYER


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("gptq", {}),
        ("gptq", {"format": "gptq_v2", "sym": False, "desc_act": True}),
        ("gptq", {"bits": 8, "lm_head": True}),
        ("gptq", {"dynamic": {"-:.*v_proj": {}, "+:.*down_proj": {"bits": 8}}}),
        ("awq", {"format": "gemm"}),
    ],
)
def test_what_gptqmodel_quantises(method: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Calibrated and written by it; served, its scores are those of transformers on the weights it means."""
    plain, folder = tmp_path / "plain", tmp_path / "quantised"
    model = make_checkpoint(plain, **OF_WHOLE_BATCHES)
    save_word_tokenizer(plain)
    config = QuantizeConfig(**({"method": method, "bits": 4, "group_size": GROUP} | changes))
    theirs = GPTQModel.load(str(plain), config, device="cpu")
    tokens = torch.randint(3, VOCAB, (16, 64), generator=torch.Generator().manual_seed(0))
    ones = torch.ones(64, dtype=torch.int64)
    theirs.quantize([{"input_ids": row, "attention_mask": ones} for row in tokens], batch_size=1)
    theirs.save(str(folder))
    weights = check(folder)
    assert ("lm_head" in weights) == changes.get("lm_head", False)
    assert ("model.layers.0.self_attn.v_proj" in weights) == ("dynamic" not in changes)
    plain_ones = load_file(folder / "model.safetensors")  # rounded to 16 bits
    meant = plain_ones | {f"{name}.weight": weight for name, weight in weights.items()}
    model.load_state_dict({name: meant[name].float() for name in model.state_dict()})
    model.save_pretrained(tmp_path / "expected")
    check_scores(folder, tmp_path / "expected", vocab=VOCAB)
