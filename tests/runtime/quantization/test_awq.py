"""Checkpoints of AutoAWQ's format say what the weights they stand for say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.quantization import stored_format
from octavo.quantization.awq import Awq
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.quantised_checkpoints import (
    Store,
    Tensors,
    awq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.scores import check_scores

needs_module(Requirement.NUMBA)

SHAPE = {
    "vocab_size": 112,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
}
CONFIG = {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "llama": ("llama", {}, 32),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}, 32),
    "llama-tied": ("llama", {"tie_word_embeddings": True}, 16),
    "one-group": ("llama", {}, -1),
    # Inputs in groups that fill no vectors, and outputs that fill no panels.
    "misfits": ("llama", {"hidden_size": 72, "intermediate_size": 104, "head_dim": 8}, 4),
}


def awq(group: int, kept: tuple[str, ...] = ()) -> Store:
    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module) or any(part in module for part in kept):
            return None
        grid = round_to_grid(weight, 4, None if group == -1 else min(group, weight.shape[1]))
        return awq_tensors(grid), grid.dequantize()

    return store


def quantised(
    folder: Path, name: str = "llama", *, kept: tuple[str, ...] = (), **config: object
) -> tuple[Path, Path]:
    """A checkpoint and the plain one that it stands for."""
    torch.set_num_threads(1)
    family, changes, group = MODELS[name]
    make_checkpoint(folder / "plain", family, **(SHAPE | changes))
    group_size = {"group_size": group}
    stored = awq(group, kept)
    target = folder / "awq"
    return target, quantise_checkpoint(
        folder / "plain", target, stored, CONFIG | group_size | config
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_scores_are_those_of_the_dequantised_weights(name: str, tmp_path: Path) -> None:
    check_scores(*quantised(tmp_path, name), vocab=112)


@pytest.mark.parametrize("kept", [("self_attn.k_proj",), ("layers.1.",), ("mlp", "q_proj")])
def test_modules_that_are_kept_stand_beside_those_that_are_not(
    kept: tuple[str, ...], tmp_path: Path
) -> None:
    paths = quantised(tmp_path, kept=kept, modules_to_not_convert=list(kept))
    check_scores(*paths, vocab=112)


def test_what_is_stored_counts_where_the_list_says_another(tmp_path: Path) -> None:
    check_scores(*quantised(tmp_path, kept=("v_proj",)), vocab=112)


def test_bfloat16_activations_give_nearly_the_same(tmp_path: Path) -> None:
    """Within what transformers in bfloat16 is off by: 0.17, where pairs are multiplied 0.11 here."""
    folder, reference = quantised(tmp_path)
    check_scores(folder, reference, vocab=112, tolerance=0.17, dtype="bfloat16")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bits": 8}, "bits is 8; implemented is 4"),
        ({"w_bit": 3}, "w_bit is 3"),
        ({"version": "gemv"}, "version is 'gemv'; implemented is gemm"),
        ({"version": "GEMV_FAST"}, "GEMV_FAST"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin'"),
        ({"backend": "llm-awq"}, "backend is 'llm-awq'"),
        ({"desc_act": True}, "desc_act is True"),
        ({"dynamic": {"+:.*": {"bits": 8}}}, "what dynamic"),
        ({"rotation": "hadamard"}, "what rotation"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        stored_format(CONFIG | fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"group_size": 0}, "group_size is 0; it must be a positive integer, or -1"),
        ({"bits": "four"}, r"bits"),
        ({"modules_to_not_convert": "gate"}, "modules_to_not_convert"),
    ],
)
def test_damaged_fields_are_named(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ModelInvalidError, match=words):
        stored_format(CONFIG | fields)


PUBLISHED = [
    # TheBloke/Mixtral-8x7B-Instruct-v0.1-AWQ
    (
        {"bits": 4, "group_size": 128, "modules_to_not_convert": ["gate"], "quant_method": "awq"}
        | {"version": "gemm", "zero_point": True},
        Awq(128, True, ("gate",)),
    ),
    # Qwen/Qwen2.5-7B-Instruct-AWQ
    (
        {"bits": 4, "group_size": 128, "modules_to_not_convert": None, "quant_method": "awq"}
        | {"version": "gemm", "zero_point": True},
        Awq(128),
    ),
    # quant_config.json
    (
        {"quant_method": "awq", "zero_point": True, "q_group_size": 64, "w_bit": 4}
        | {"version": "GEMM"},
        Awq(64),
    ),
]


@pytest.mark.parametrize(("raw", "expected"), PUBLISHED)
def test_published_configs_are_taken(raw: dict[str, object], expected: Awq) -> None:
    assert stored_format(raw) == expected


def test_a_quantised_checkpoint_names_its_method_in_a_file_beside_config_json_too(
    tmp_path: Path,
) -> None:
    folder, reference = quantised(tmp_path)
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    found = raw.pop("quantization_config")
    path.write_text(json.dumps(raw))
    (folder / "quant_config.json").write_text(
        json.dumps({"w_bit": 4, "q_group_size": found["group_size"], "version": "GEMM"})
    )
    check_scores(folder, reference, vocab=112)
