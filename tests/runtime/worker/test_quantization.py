"""`quantization` changes what is held and computed, and is refused where nothing would come of it."""

from __future__ import annotations

import gc
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from octavo.config import EngineConfig, LoadFormat, Quantization
from octavo.errors import InvalidConfigurationError
from octavo.kernels.reference.weight_only import quantize_float8, quantize_int4, quantize_int8
from octavo.kernels.select import kernels_for
from octavo.loading import Placement, SafetensorsWeights
from octavo.models.building import build_model
from octavo.models.registry import read_model_config
from octavo.quantization import check_quantization, scheme_for, stored_format
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.scores import greedy
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ROUNDINGS = [one for one in Quantization if one.is_made_at_load]
QUANTIZE = {
    Quantization.INT8: quantize_int8,
    Quantization.INT4: quantize_int4,
    Quantization.FP8: quantize_float8,
}
SHAPE = {
    "vocab_size": 112,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"attention_bias": True}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "phi-tied": ("phi", {"tie_word_embeddings": True}),
    "qwen2_moe": (
        "qwen2_moe",
        {"num_experts": 3, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 64},
    ),
    "falcon-40b": (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2, "tie_word_embeddings": False},
    ),
}


def round_beforehand(model: Any, quantization: Quantization, is_tied: bool) -> None:
    """Every matrix of a product becomes what rounding leaves of it; the head has eight bits."""
    table = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_table = parameter is table
            if parameter.dim() < 2 or (is_table and not is_tied) or "gate.weight" in name:
                continue
            has_eight = quantization is Quantization.INT8 or is_table or parameter is head
            rows = parameter.view(-1, parameter.shape[-1])
            quantize = quantize_int8 if has_eight else QUANTIZE[quantization]
            parameter.copy_(quantize(rows).dequantize().view(parameter.shape))


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        *((name, quantization) for name in sorted(FAMILIES) for quantization in ROUNDINGS),
        ("llama-tied", Quantization.FP8),
    ],
)
def test_tokens_are_those_of_weights_that_were_rounded_before(
    name: str, quantization: Quantization, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    family, changes = FAMILIES[name]
    model = make_checkpoint(tmp_path / "whole", family, **(SHAPE | changes))
    round_beforehand(model, quantization, bool(changes.get("tie_word_embeddings", False)))
    model.save_pretrained(tmp_path / "rounded")
    prompt = random.Random(1).choices(range(3, 112), k=21)  # noqa: S311
    tokens, logprobs = greedy(make_executor(tmp_path / "rounded"), prompt, 24)
    quantised = make_executor(tmp_path / "whole", quantization=quantization)
    found = greedy(quantised, prompt, 24)
    assert found[0] == tokens
    assert found[1] == pytest.approx(logprobs, abs=1e-3)
    assert greedy(make_executor(tmp_path / "whole"), prompt, 24)[1] != pytest.approx(
        logprobs, abs=0.01
    )


def held_bytes(root: object) -> int:
    """Of all tensors that an object refers to, however deep."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    stack = [root]
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, type) or type(one).__name__ == "module":
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        elif not callable(one) or type(one).__module__.startswith("octavo.") or closure_of(one):
            stack += closure_of(one) or gc.get_referents(one)
    return sum(storages.values())


def closure_of(one: object) -> list[object]:
    return [cell.cell_contents for cell in getattr(one, "__closure__", None) or ()]


def test_memory_that_is_held_is_that_of_the_format(tmp_path: Path) -> None:
    make_checkpoint(
        tmp_path,
        "qwen3",
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=512,
        num_attention_heads=8,
        head_dim=32,
        tie_word_embeddings=True,
        initializer_range=0.02,
    )
    config = read_model_config(tmp_path)
    held = {}
    for quantization in (None, *ROUNDINGS):
        kernels = kernels_for(CPU)
        model = build_model(
            config,
            SafetensorsWeights(tmp_path),
            scheme=scheme_for(quantization, kernels),
            kernels=kernels,
            placement=Placement(torch.float32, CPU),
        )
        held[quantization] = held_bytes(model) / config.num_parameters
    table = 2048 * 256 / config.num_parameters
    assert held[Quantization.INT8] == pytest.approx(1.0, rel=0.03)
    assert held[Quantization.INT4] == pytest.approx(0.5625 + table * 0.4375, rel=0.03)
    assert held[None] >= 2.0  # float32, or bfloat16 where that loses nothing


def test_a_gpu_rounds_in_float16_too() -> None:
    config = EngineConfig(model="m", dtype="float16", quantization=Quantization.INT8)
    check_quantization(config, CUDA, None)


def test_a_checkpoint_that_is_quantised_is_refused_before_its_weights(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "awq"}}
    path.write_text(json.dumps(raw))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InvalidConfigurationError, match=r"quantization is int4.*quant_method awq"):
        make_executor(tmp_path, quantization=Quantization.INT4)


def test_float16_is_refused() -> None:
    """On a CPU that nobody named; with `--device cpu` already by the configuration."""
    config = EngineConfig(model="m", dtype="float16", quantization=Quantization.INT8)
    with pytest.raises(InvalidConfigurationError, match="dtype is float16"):
        check_quantization(config, CPU, None)


def test_without_quantization_nothing_is_refused() -> None:
    check_quantization(EngineConfig(model="m", dtype="float16"), CUDA, None)


AWQ = stored_format({"quant_method": "awq"})


def test_checkpoints_that_are_quantised_run_on_every_device() -> None:
    check_quantization(EngineConfig(model="m"), CPU, AWQ)
    check_quantization(EngineConfig(model="m", dtype="float16"), CUDA, AWQ)
    with pytest.raises(InvalidConfigurationError, match="random weights"):
        check_quantization(EngineConfig(model="m", load_format=LoadFormat.DUMMY), CUDA, AWQ)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"dtype": "float16"}, "dtype is float16"), ({"load_format": "dummy"}, "random weights")],
)
def test_what_quantised_weights_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    config = msgspec.convert({"model": "m"} | changes, EngineConfig)
    with pytest.raises(InvalidConfigurationError, match=words):
        check_quantization(config, CPU, AWQ)


def test_quantization_may_name_what_the_checkpoint_holds_and_nothing_else() -> None:
    config = EngineConfig(model="m", quantization=Quantization.AWQ)
    check_quantization(config, CPU, AWQ)
    with pytest.raises(InvalidConfigurationError, match=r"quantization is awq.*are not quantised"):
        check_quantization(config, CPU, None)
