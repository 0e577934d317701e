"""Ranks that share a model compute what one computes alone: every family, equal parts and unequal ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import Device, EngineConfig, Quantization
from octavo.errors import InvalidConfigurationError
from octavo.layers.ranks import Ranks
from octavo.loading import SafetensorsWeights, Slice
from octavo.models.registry import FAMILIES
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence
from octavo.worker.start.encoder import EncoderPlan, plan_model
from octavo.worker.start.plan import plan_start
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.encoders import BASE, SCORE, make_encoder, write_modules
from tests.support.runtime.encoders import KINDS as ENCODERS
from tests.support.runtime.quantised_checkpoints import (
    awq_tensors,
    float8_weight,
    gptq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.rank_threads import FIRST, SECOND, LoneRank, on_ranks, scores, sequence
from tests.support.runtime.shared_kinds import KINDS, MOE, SIZES, families


def assert_equal_on(size: int, folder: Path, **changes: Any) -> None:
    torch.set_num_threads(1)
    ((expected, hidden),) = scores(folder, 1, **changes)
    found = scores(folder, size, **changes)
    torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-4)
    for _, each in found:
        torch.testing.assert_close(each, hidden, rtol=1e-4, atol=1e-4)
        # A router on one rank must choose as on every other.
        assert torch.equal(each, found[0][1])


def test_every_family_is_shared() -> None:
    assert families() == {name.lower() for name in FAMILIES}


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_score_as_one_does(kind: str, tmp_path: Path) -> None:
    """With drafts, and beside each other prompts with an adapter and without."""
    family, changes = KINDS[kind]
    model = make_checkpoint(tmp_path / "base", family, **{**SIZES, **changes})
    save_adapter(tmp_path / "adapter", model)
    for size in (2, 4):
        assert_equal_on(size, tmp_path / "base", adapter=tmp_path / "adapter")


ROUNDED: dict[str, tuple[str, int, dict[str, Any]]] = {
    # Parts that have no panels of their own beside some that have, and groups that are cut.
    "llama": ("llama", 2, {"intermediate_size": 96}),
    "llama-tied": ("llama", 4, {"intermediate_size": 104, "tie_word_embeddings": True}),
    "qwen3_moe": ("qwen3_moe", 2, MOE | {"moe_intermediate_size": 32}),
}


@pytest.mark.parametrize("rounding", [Quantization.INT8, Quantization.INT4, Quantization.FP8])
@pytest.mark.parametrize("kind", ROUNDED)
def test_ranks_round_weights_as_one_does(kind: str, rounding: Quantization, tmp_path: Path) -> None:
    family, size, changes = ROUNDED[kind]
    make_checkpoint(tmp_path, family, **{**SIZES, "vocab_size": 112, **changes})
    assert_equal_on(size, tmp_path, quantization=rounding)


def test_one_size_for_all_is_refused_by_name(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama", num_attention_heads=6, num_key_value_heads=2)
    for size, why in (
        (4, "6 attention heads, which it must divide. Use one of 1, 2, 6."),
        (3, "2 key-value heads, which it must divide or be a multiple of. Use one of 1, 2, 6."),
    ):
        with pytest.raises(InvalidConfigurationError) as refused:
            plan_start(
                EngineConfig(model=str(tmp_path), device=Device.CPU, tensor_parallel_size=size)
            )
        assert str(refused.value) == f"tensor_parallel_size is {size}, but the model has {why}"


@pytest.mark.parametrize("kind", ["falcon", "gpt_neox", "llama", "mixtral", "phi3"])
def test_a_rank_reads_its_part_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And norms, routers and what else all ranks have, which is little."""
    family, changes = KINDS[kind]
    make_checkpoint(tmp_path, family, **{**SIZES, **changes})
    read = SafetensorsWeights.tensors
    num_read = 0

    def counted(
        source: SafetensorsWeights, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        nonlocal num_read
        found = read(source, shapes, part)
        num_read += sum(tensor.numel() for tensor in found)
        return found

    monkeypatch.setattr(SafetensorsWeights, "tensors", counted)
    config = EngineConfig(model=str(tmp_path), device=Device.CPU, dtype="float32")
    plan_start(config).build()
    whole, num_read = num_read, 0
    for rank in range(2):
        plan_start(config).build(LoneRank(rank))
    assert whole < num_read < 1.1 * whole


@pytest.mark.parametrize("head", [BASE, SCORE])
@pytest.mark.parametrize("kind", ENCODERS)
def test_ranks_pool_what_an_encoder_pools_alone(kind: str, head: int, tmp_path: Path) -> None:
    """Unequal parts of the inner width and of the vocabulary."""
    torch.set_num_threads(1)
    make_encoder(tmp_path, kind, head, intermediate_size=90, num_attention_heads=8, hidden_size=64)
    write_modules(tmp_path, {"pooling_mode": "mean"})
    (expected,) = vectors(tmp_path, 1)
    for size in (2, 4):
        for found in vectors(tmp_path, size):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def vectors(folder: Path, size: int) -> list[torch.Tensor]:
    """Each rank's, of two texts, one of them a pair."""
    config = EngineConfig(
        model=str(folder), device=Device.CPU, dtype="float32", tensor_parallel_size=size
    )
    state = SamplingState(SamplingParams(), None, (), (), is_pooled=True)
    pair = dataclasses.replace(state, second_segment=4)
    entries = [
        ScheduledSequence(0, [3, *range(5, 40), 4], 0, (), state),
        ScheduledSequence(1, [3, 20, 9, 4, 7, 8, 4], 0, (), pair),
    ]

    def work(ranks: Ranks) -> torch.Tensor:
        plan = plan_model(config)
        assert isinstance(plan, EncoderPlan)
        return torch.tensor(plan.runner(plan.build(ranks)).run(entries))

    return on_ranks(size, work)


def test_ranks_pool_whole_prompts_of_a_decoder(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path, "qwen3", **SIZES).model
    model.save_pretrained(tmp_path)
    write_modules(tmp_path, {"pooling_mode": "weightedmean"})
    prompts = [sequence(0, FIRST, 0), sequence(1, SECOND, 0)]
    for size in (1, 2):
        for _, hidden in scores(tmp_path, size, batches=[prompts]):
            for row, tokens in zip(hidden, (FIRST, SECOND), strict=True):
                with torch.no_grad():
                    states = model(torch.tensor([tokens])).last_hidden_state[0]
                places = torch.arange(1.0, len(tokens) + 1)
                expected = places @ states / places.sum()
                torch.testing.assert_close(row, expected, rtol=1e-3, atol=1e-4)


# Products side by side, and one of all heads.
APART = [("llama", 32), ("llama", 64), ("gpt_neox", 32)]
FORMATS: dict[str, tuple[dict[str, Any], int | None, int | None]] = {
    "awq": ({"quant_method": "awq", "group_size": 16, "version": "gemm"}, 16, None),
    "awq-cut": ({"quant_method": "awq", "group_size": 64, "version": "gemm"}, 64, None),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq"},
        32,
        1,
    ),
    "gptq-8-bit": ({"quant_method": "gptq", "bits": 8, "group_size": -1}, None, 1),
}


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt_neox", "qwen3_moe"])
@pytest.mark.parametrize("name", FORMATS)
def test_ranks_share_quantised_weights(name: str, family: str, tmp_path: Path) -> None:
    """Of groups that a cut goes through, both sides have the scale."""
    raw, group, offset = FORMATS[name]
    changes: dict[str, Any] = {"intermediate_size": 96, "vocab_size": 112}
    if family == "qwen3_moe":
        changes |= MOE | {"moe_intermediate_size": 32}
    if family == "phi3":
        changes["head_dim"] = None
    make_checkpoint(tmp_path / "plain", family, **{**SIZES, **changes})

    def store(module: str, weight: torch.Tensor) -> Any:
        if not is_product(module) or "embed" in module:
            return None
        grid = round_to_grid(weight, raw.get("bits", 4), group)
        if offset is None:
            return awq_tensors(grid), grid.dequantize()
        return gptq_tensors(grid, raw["bits"], zero_offset=offset), grid.dequantize()

    quantise_checkpoint(tmp_path / "plain", tmp_path / "quantised", store, raw)
    assert_equal_on(2, tmp_path / "quantised")


def test_blocks_of_float8_are_shared(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "plain", "llama", **SIZES | {"intermediate_size": 96})

    def store(module: str, weight: torch.Tensor) -> Any:
        if not is_product(module):
            return None
        codes, scale, dequantised = float8_weight(weight, 32, 32)
        return {"weight": codes, "weight_scale_inv": scale}, dequantised

    config = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    quantise_checkpoint(tmp_path / "plain", tmp_path / "quantised", store, config)
    assert_equal_on(2, tmp_path / "quantised")


@pytest.mark.parametrize(("family", "group"), APART)
def test_groups_that_lie_apart_are_shared(family: str, group: int, tmp_path: Path) -> None:
    """By chance each rank has other numbers of each group's inputs."""
    make_checkpoint(tmp_path / "plain", family, **SIZES | {"intermediate_size": 192})

    def store(module: str, weight: torch.Tensor) -> Any:
        if not is_product(module):
            return None
        order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(3))
        grid = round_to_grid(weight, 4, group, order=order)
        return gptq_tensors(grid, 4, zero_offset=1), grid.dequantize()

    raw = {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": True, "sym": False}
    quantise_checkpoint(tmp_path / "plain", tmp_path / "quantised", store, raw)
    for size in (2, 4):
        assert_equal_on(size, tmp_path / "quantised")
