"""Checkpoints of GPTQ's formats say what the weights they stand for say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.kernels.reference.weight_only import Code
from octavo.quantization import stored_format
from octavo.quantization.gptq import Gptq, GptqSettings
from octavo.quantization.stored import StoredLayout
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.quantised_checkpoints import (
    Tensors,
    gptq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.scores import check_scores
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)

SHAPE = {
    "vocab_size": 112,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
}
Order = Callable[[str, int], torch.Tensor | None]


def in_order(module: str, depth: int) -> None:
    return None


def by_input(module: str, depth: int) -> torch.Tensor:
    """Queries, keys and values have one, as a quantiser gives them."""
    return torch.randperm(depth, generator=torch.Generator().manual_seed(depth))


def by_module(module: str, depth: int) -> torch.Tensor:
    return torch.randperm(
        depth, generator=torch.Generator().manual_seed(len(module) * ord(module[-6]))
    )


def quantised(
    folder: Path,
    config: dict[str, Any],
    *,
    order: Order = in_order,
    family: str = "llama",
    overrides: dict[str, int | None] | None = None,
    has_head: bool = False,
    **changes: Any,
) -> tuple[Path, Path]:
    """A checkpoint and the plain one that it stands for.

    Args:
        overrides: Bits of modules, by patterns; None: they stay.
    """
    torch.set_num_threads(1)
    make_checkpoint(folder / "plain", family, **(SHAPE | changes))
    zero_offset = 0 if config.get("checkpoint_format") == "gptq_v2" else 1

    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        bits = config["bits"]
        for pattern, override in (overrides or {}).items():
            if re.match(pattern, module):
                bits = override
        if bits is None or not (is_product(module) or (has_head and module == "lm_head")):
            return None
        depth = weight.shape[1]
        group = None if config["group_size"] == -1 else config["group_size"]
        grid = round_to_grid(
            weight, bits, group, is_symmetric=config.get("sym", True), order=order(module, depth)
        )
        return gptq_tensors(grid, bits, zero_offset=zero_offset), grid.dequantize()

    target = folder / "gptq"
    return target, quantise_checkpoint(
        folder / "plain", target, store, {"quant_method": "gptq"} | config
    )


@pytest.mark.parametrize("checkpoint_format", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("sym", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_scores_are_those_of_the_dequantised_weights(
    bits: int, sym: bool, checkpoint_format: str, tmp_path: Path
) -> None:
    config = {"bits": bits, "group_size": 32, "sym": sym, "checkpoint_format": checkpoint_format}
    check_scores(*quantised(tmp_path, config), vocab=112)


@pytest.mark.parametrize("group_size", [-1, 32, 64])
@pytest.mark.parametrize("order", [by_input, by_module])
def test_inputs_are_put_into_the_order_of_their_groups(
    order: Order, group_size: int, tmp_path: Path
) -> None:
    config = {"bits": 4, "group_size": group_size, "sym": False, "desc_act": True}
    check_scores(*quantised(tmp_path, config, order=order), vocab=112)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mixtral", {"num_local_experts": 3, "num_experts_per_tok": 2}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
    ],
)
def test_families_experts_and_biases(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    config = {"bits": 4, "group_size": 32, "desc_act": True}
    paths = quantised(tmp_path, config, order=by_input, family=family, **changes)
    check_scores(*paths, vocab=112)


def test_a_head_may_be_quantised(tmp_path: Path) -> None:
    config = {"bits": 8, "group_size": 32, "lm_head": True}
    check_scores(*quantised(tmp_path, config, has_head=True), vocab=112)


def test_rules_change_bits_and_leave_modules_out(tmp_path: Path) -> None:
    overrides = {r".*\.down_proj": 8, r".*\.1\.self_attn\.k_proj": None, r".*\.q_proj": 3}
    dynamic: dict[str, dict[str, Any]] = {
        r"+:.*\.down_proj": {"bits": 8},
        r"-:.*\.1\.self_attn\.k_proj": {},
        r".*\.q_proj": {"bits": 3},
    }
    config = {"bits": 4, "group_size": 32, "dynamic": dynamic}
    check_scores(*quantised(tmp_path, config, overrides=overrides), vocab=112)


@pytest.mark.parametrize("g_idx", ["zeros", "absent"])
def test_groups_side_by_side_need_no_index(g_idx: str, tmp_path: Path) -> None:
    folder, reference = quantised(tmp_path, {"bits": 4, "group_size": 32})
    edit(folder, lambda one: torch.zeros_like(one) if g_idx == "zeros" else None)
    check_scores(folder, reference, vocab=112)


def edit(
    folder: Path, change: Callable[[torch.Tensor], torch.Tensor | None], part: str = "g_idx"
) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in [one for one in tensors if one.endswith(part)]:
        changed = change(tensors.pop(name))
        if changed is not None:
            tensors[name] = changed
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("q_proj.g_idx", lambda one: None, "g_idx is missing"),
        ("q_proj.g_idx", lambda one: one.clamp(max=0) + 1, "g_idx makes groups of other sizes"),
        (
            "q_proj.qzeros",
            lambda one: one | 15,
            "qzeros holds 15.*convert the checkpoint to gptq_v2",
        ),
    ],
)
def test_what_cannot_be_read_for_certain_is_told(
    part: str, change: Callable[[torch.Tensor], torch.Tensor | None], words: str, tmp_path: Path
) -> None:
    config = {"bits": 4, "group_size": 32, "sym": False, "desc_act": True}
    folder, _ = quantised(tmp_path, config, order=by_input)
    edit(folder, change, part)
    with pytest.raises(ModelInvalidError, match=words):
        make_executor(folder)


CONFIG: dict[str, Any] = {"quant_method": "gptq", "bits": 4}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bits": 5}, "bits is 5; implemented is 2, 3, 4 or 8"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin'"),
        ({"format": "gptq_p"}, "format is 'gptq_p'"),
        ({"is_marlin_format": True}, "is_marlin_format"),
        ({"pack_dtype": "int64"}, "pack_dtype is 'int64'"),
        ({"rotation": "hadamard"}, "what rotation"),
        ({"dynamic": {"+:x": {"rotation": "quarot"}}}, r"dynamic\.\+:x: what rotation"),
        ({"dynamic": {"+:x": {"bits": 6}}}, "bits is 6"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        stored_format(CONFIG | fields)


def test_a_rule_that_is_no_pattern_is_named() -> None:
    with pytest.raises(ModelInvalidError, match=r"dynamic\.-:\( is no regular expression"):
        stored_format(CONFIG | {"dynamic": {"-:(": {}}})


def test_lists_and_rules_tell_which_modules_are_quantised() -> None:
    found = stored_format(
        CONFIG
        | {
            "group_size": 64,
            "modules_in_block_to_quantize": [["q_proj"], ["mlp.up_proj", "k_proj"]],
            "modules_to_not_convert": ["layers.3."],
            "dynamic": {r"+:.*k_proj": {"bits": 8, "group_size": -1}, "-:.*layers.2.*": {}},
        }
    )
    assert found.layout("model.layers.1.q_proj", 128) == StoredLayout(Code.INT4, 64)
    assert found.layout("model.layers.1.k_proj", 128) == StoredLayout(Code.INT8, None)
    for kept in (
        "model.layers.3.q_proj",
        "model.layers.2.q_proj",
        "model.layers.1.o_proj",
        "lm_head",
    ):
        assert found.layout(kept, 128) is None


def test_published_configs_are_taken() -> None:
    """TheBloke's, of AutoGPTQ, and Qwen's."""
    bloke: dict[str, Any] = {
        "bits": 4,
        "group_size": 128,
        "damp_percent": 0.1,
        "desc_act": True,
        "sym": True,
    }
    bloke |= {"true_sequential": True, "model_name_or_path": None, "quant_method": "gptq"}
    assert stored_format(bloke) == Gptq(GptqSettings(4, 128, False, True))
    qwen: dict[str, Any] = {
        "batch_size": 1,
        "bits": 8,
        "block_name_to_quantize": None,
        "dataset": None,
    }
    qwen |= {"damp_percent": 0.01, "desc_act": False, "group_size": 128, "sym": True}
    qwen |= {"module_name_preceding_first_block": None, "modules_in_block_to_quantize": None}
    qwen |= {"quant_method": "gptq", "true_sequential": True, "use_cuda_fp16": False}
    assert stored_format(qwen) == Gptq(GptqSettings(8, 128, False, False))
