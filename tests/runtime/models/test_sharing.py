"""Ranks that share a model compute what one computes alone: every family, equal parts and unequal ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers

from octavo.config import Device, EngineConfig, ModelImplementation, Quantization
from octavo.errors import InvalidConfigurationError, ModelUnsupportedError
from octavo.loading import SafetensorsWeights, Slice
from octavo.models.registry import FAMILIES
from octavo.worker.start.create import create_executor
from octavo.worker.start.plan import plan_start
from tests.support.runtime.checkpoints import GEMMA2, make_checkpoint
from tests.support.runtime.quantised_checkpoints import (
    awq_tensors,
    float8_weight,
    gptq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.rank_threads import LoneRank, scores

# Inner widths and a vocabulary that neither 2 nor 4 divides; key heads that 4 ranks must share.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 90,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 30}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("bloom", {}),
    "falcon-alibi": ("falcon", {"alibi": True, "multi_query": False, "parallel_attn": False}),
    "mpt": ("mpt", {"attn_config": {"clip_qkv": 2.0}}),
    "falcon": ("falcon", {"bias": True}),  # one key head for all
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 4}),
    "gemma2": ("gemma2", GEMMA2),
    "gemma3": ("gemma3", {"sliding_window": 7, "sliding_window_pattern": 2}),
    "gpt_neox": ("gpt_neox", {"rotary_pct": 0.5}),
    "gpt_neox-serial": ("gpt_neox", {"use_parallel_residual": False}),
    "llama": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "mistral": ("mistral", {}),
    "mixtral": ("mixtral", {"num_local_experts": 5}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {"head_dim": None}),
    "qwen2": ("qwen2", {}),
    "qwen2_moe": ("qwen2_moe", MOE | {"shared_expert_intermediate_size": 50}),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": ("qwen3_moe", MOE | {"mlp_only_layers": [1]}),
}


def assert_equal_on(size: int, folder: Path, **changes: object) -> None:
    torch.set_num_threads(1)
    ((expected, hidden),) = scores(folder, 1, **changes)
    found = scores(folder, size, **changes)
    torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-4)
    for _, each in found:
        torch.testing.assert_close(each, hidden, rtol=1e-4, atol=1e-4)
        # A router on one rank must choose as on every other.
        assert torch.equal(each, found[0][1])


def test_every_family_is_shared() -> None:
    shared = {family.replace("_", "") for family, _ in KINDS.values()}
    assert shared == {name.removesuffix("ForCausalLM").lower() for name in FAMILIES}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_score_as_one_does(kind: str, size: int, tmp_path: Path) -> None:
    family, changes = KINDS[kind]
    make_checkpoint(tmp_path, family, **{**SIZES, **changes})
    assert_equal_on(size, tmp_path)


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


def test_what_ranks_do_not_share_is_refused_by_name(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "decoder", "llama", **SIZES)
    generic = EngineConfig(
        model=str(tmp_path / "decoder"),
        device=Device.CPU,
        model_impl=ModelImplementation.TRANSFORMERS,
        tensor_parallel_size=2,
    )
    with pytest.raises(InvalidConfigurationError, match=r"transformers' own modules.*size 1"):
        create_executor(generic)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = transformers.BertConfig(architectures=["BertModel"], **sizes)
    config.save_pretrained(tmp_path / "encoder")
    with pytest.raises(InvalidConfigurationError, match=r"BertModel is an encoder.*size 1"):
        create_executor(
            msgspec.structs.replace(
                generic, model=str(tmp_path / "encoder"), model_impl=ModelImplementation.AUTO
            )
        )


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


def test_groups_that_lie_apart_are_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "plain", "llama", **SIZES | {"intermediate_size": 96})

    def store(module: str, weight: torch.Tensor) -> Any:
        if not is_product(module):
            return None
        order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(3))
        grid = round_to_grid(weight, 4, 32, order=order)
        return gptq_tensors(grid, 4, zero_offset=1), grid.dequantize()

    raw = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}
    quantise_checkpoint(tmp_path / "plain", tmp_path / "quantised", store, raw)
    with pytest.raises(ModelUnsupportedError, match=r"act-order.*--tensor-parallel-size 1"):
        scores(tmp_path / "quantised", 2)
