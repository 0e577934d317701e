"""Adapters that would compute something else than PEFT does, or that are damaged, are refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.loading.adapter import WEIGHTS_NAME, read_adapter
from octavo.loading.adapter_config import CONFIG_NAME

NAME = "base_model.model.model.layers.0.self_attn.q_proj"


def write(folder: Path, **fields: Any) -> Path:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, **fields}
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    save_file(
        {f"{NAME}.lora_A.weight": torch.ones(2, 8), f"{NAME}.lora_B.weight": torch.ones(4, 2)},
        folder / WEIGHTS_NAME,
    )
    return folder


@pytest.mark.parametrize(
    ("fields", "scale"),
    [
        ({}, 3.0),
        ({"use_rslora": True}, 6 / math.sqrt(2)),
        ({"alpha_pattern": {"q_proj": 1}}, 0.5),
        ({"alpha_pattern": {"proj": 1}}, 3.0),
        ({"alpha_pattern": {"^q_proj": 1}}, 3.0),
        ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 1}}, 0.5),
        ({"r": 9, "rank_pattern": {"self_attn.q_proj": 2}}, 3.0),
        ({"init_lora_weights": "gaussian", "qalora_group_size": 16, "lora_dropout": 0.1}, 3.0),
        # What a later PEFT writes for what is not in use.
        ({"alora_invocation_tokens": None, "use_qalora": False, "target_parameters": []}, 3.0),
    ],
    ids=str,
)
def test_the_scale_is_pefts(tmp_path: Path, fields: dict[str, Any], scale: float) -> None:
    (low,) = read_adapter(write(tmp_path, **fields)).modules.values()
    assert low.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    "fields",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa_niter_16"},
        {"layer_replication": [[0, 4], [2, 5]]},
        {"alora_invocation_tokens": [1, 2]},
        {"target_parameters": ["mlp.experts.gate_up_proj"]},
        {"trainable_token_indices": [3]},
        {"use_qalora": True},
        {"some_later_idea": 0.5},
        {"alpha_pattern": {"layers.[01].self_attn.q_proj": 1}},
        {"rank_pattern": {r".*\.q_proj": 2}},
    ],
    ids=lambda fields: str(next(iter(fields))),
)
def test_what_is_not_implemented_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ModelUnsupportedError) as error:
        read_adapter(write(tmp_path, **fields))
    assert str(error.value).startswith(f"{tmp_path / CONFIG_NAME}: {name} ")
    if "_pattern" in name:
        assert "merge_and_unload" in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"r": 0},
        {"r": True},
        {"lora_alpha": "16"},
        {"lora_alpha": math.nan},
        {"lora_alpha": 1e308},
        {"lora_alpha": 10**400},
        {"target_modules": [1]},
        {"exclude_modules": [1]},
        {"layers_to_transform": ["0"]},
        {"use_rslora": "yes"},
        {"rank_pattern": {"q_proj": -1}},
        {"alpha_pattern": [1]},
        {"alpha_pattern": {"q_proj": math.inf}},
    ],
    ids=lambda fields: str(next(iter(fields))),
)
def test_a_field_of_the_wrong_kind_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(ModelInvalidError, match=next(iter(fields))):
        read_adapter(write(tmp_path, **fields))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora_A.weight": None}, "lora_A.weight is missing"),
        ({"lora_B.weight": None}, "lora_B.weight is missing"),
        ({"lora_A.weight": torch.ones(3, 8)}, "lora_A.weight has the rank 3"),
        ({"lora_B.weight": torch.ones(4, 3)}, "lora_B.weight has the rank 3"),
        ({"lora_A.weight": torch.ones(16)}, "must be a matrix"),
        ({"lora_A.weight": torch.ones(2, 8, dtype=torch.int8)}, "must be a matrix"),
        ({"lora_A.weight": torch.ones(2, 8, dtype=torch.float64)}, "must be a matrix in float32"),
        ({"lora_A.weight": torch.full((2, 8), math.nan)}, "not finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_matrices_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], words: str
) -> None:
    folder = write(tmp_path)
    tensors = load_file(folder / WEIGHTS_NAME)
    for name, tensor in changes.items():
        del tensors[f"{NAME}.{name}"]
        if tensor is not None:
            tensors[f"{NAME}.{name}"] = tensor
    save_file(tensors, folder / WEIGHTS_NAME)
    with pytest.raises(ModelInvalidError, match=words) as error:
        read_adapter(folder)
    assert str(folder / WEIGHTS_NAME) in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        f"{NAME}.lora_magnitude_vector",
        f"{NAME}.lora_B.bias",
        "base_model.model.lm_head.weight",
    ],
)
def test_tensors_that_are_no_matrices_of_a_linear_module_are_refused(
    tmp_path: Path, key: str
) -> None:
    folder = write(tmp_path)
    tensors = load_file(folder / WEIGHTS_NAME)
    save_file({**tensors, key: torch.ones(2, 2)}, folder / WEIGHTS_NAME)
    with pytest.raises(ModelUnsupportedError) as error:
        read_adapter(folder)
    assert f"{folder / WEIGHTS_NAME}: {key} " in str(error.value)


def test_matrices_are_those_of_target_modules(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for fits in (["q_proj"], ["layers.0.self_attn.q_proj"], ".*q_proj", "all-linear"):
        assert read_adapter(write(tmp_path, target_modules=fits)).modules
    assert not caplog.records
    assert read_adapter(write(tmp_path, target_modules=["q_proj", "v_proj"])).modules
    assert "'v_proj'" in caplog.text
    for other in (["v_proj"], ["proj"]):
        with pytest.raises(ModelInvalidError, match=r"q_proj has matrices, and target_modules"):
            read_adapter(write(tmp_path, target_modules=other))


@pytest.mark.parametrize(
    ("fields", "is_read"),
    [
        ({"exclude_modules": ["k_proj"]}, True),
        ({"exclude_modules": ["q_proj"]}, False),
        ({"target_modules": "all-linear", "exclude_modules": ["self_attn.q_proj"]}, False),
        ({"layers_to_transform": 0}, True),
        ({"layers_to_transform": [1, 0]}, True),
        ({"layers_to_transform": [1]}, False),
        # As PEFT: numbers of layers hold where modules are named by their ends.
        (
            {
                "target_modules": ["model.layers.0.self_attn.q_proj"],
                "layers_to_transform": [1],
            },
            True,
        ),
    ],
    ids=str,
)
def test_matrices_that_peft_would_leave_out_are_refused(
    fields: dict[str, Any], is_read: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, **{"target_modules": ["q_proj"], **fields})
    if is_read:
        assert read_adapter(folder).modules
    else:
        with pytest.raises(ModelInvalidError, match=r"q_proj has matrices.*layers_to_transform"):
            read_adapter(folder)
    assert not caplog.records


def test_a_target_that_is_excluded_is_not_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    targets = {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]}
    assert read_adapter(write(tmp_path, **targets)).modules
    assert not caplog.records


def test_an_activated_lora_is_not_told_to_be_merged(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupportedError, match="no merge does") as error:
        read_adapter(write(tmp_path, alora_invocation_tokens=[1, 2]))
    assert "merge_and_unload" not in str(error.value)


def test_a_path_without_a_folder_is_told_as_that(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(ModelInvalidError, match=f"link is a link to {tmp_path}/gone, which is not"):
        read_adapter(link)
    with pytest.raises(
        ModelInvalidError, match=r"There is no folder org/name\. An adapter is named by"
    ):
        read_adapter(Path("org/name"))


def test_files_that_are_missing_or_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalidError, match=r"holds no adapter_config\.json"):
        read_adapter(tmp_path)
    write(tmp_path)
    (tmp_path / WEIGHTS_NAME).write_bytes(b"no safetensors")
    with pytest.raises(ModelInvalidError, match="is damaged"):
        read_adapter(tmp_path)
    (tmp_path / WEIGHTS_NAME).unlink()
    with pytest.raises(ModelInvalidError, match=r"holds no adapter_model\.safetensors"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ModelInvalidError, match="pickle"):
        read_adapter(tmp_path)
