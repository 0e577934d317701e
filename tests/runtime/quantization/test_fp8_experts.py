"""FP8 experts as transformers' own quantiser writes them: scales of a layer's in one tensor, weights one by
one or in one, too. They stay in eight bits, and say what the numbers stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

from octavo.config import ModelImplementation
from octavo.errors import ModelInvalidError
from octavo.kernels.reference.weight_only import Code
from octavo.quantization.panel_forms import PanelForms
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)

VOCAB = 112
BLOCK = (32, 16)
Checkpoint = tuple[Path, Any]


def quantised(
    folder: Path, model_type: str, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> Checkpoint:
    """A checkpoint, and transformers' model of the weights that it stands for."""
    torch.set_num_threads(1)
    sizes = {"num_hidden_layers": 2, "vocab_size": VOCAB, "tie_word_embeddings": False}
    model = make_generic_checkpoint(folder / "plain", model_type, **sizes, **changes)
    # It asks for a package that moves models between devices.
    monkeypatch.setattr(FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None)
    config = transformers.FineGrainedFP8Config(weight_block_size=BLOCK)
    rounded = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "plain", dtype=torch.float32, quantization_config=config
    )
    rounded.save_pretrained(folder / "fp8")
    numbers = rounded.state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scales = numbers.get(f"{name}_scale_inv")
            if scales is not None:
                each = scales.repeat_interleave(BLOCK[0], -2).repeat_interleave(BLOCK[1], -1)
                parameter.copy_(numbers[name].float() * each)
    return folder / "fp8", model


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("qwen3_moe", {}),  # Octavo's own family, one by one
        ("mixtral", {"intermediate_size": 48}),  # a block is of gate and up, names are others
        ("olmoe", {}),  # transformers' modules, one by one
        ("granitemoe", {}),  # a layer's in one
    ],
)
def test_experts_with_scales_in_one_tensor(
    model_type: str,
    sizes: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, model = quantised(tmp_path, model_type, monkeypatch, **sizes)
    held: list[int] = []
    stored = PanelForms.stored

    def noted(forms: PanelForms, code: Code, weight: Any, *rest: Any, **named: Any) -> Any:
        assert code is Code.FLOAT8
        held.append(weight.codes.numel())
        return stored(forms, code, weight, *rest, **named)

    monkeypatch.setattr(PanelForms, "stored", noted)
    executor = make_executor(folder)
    assert_as_transformers(serve(folder, executor, VOCAB), model)
    layers = [one for name, one in model.named_parameters() if "layers" in name and one.dim() > 1]
    routers = [one for one in layers if one.shape == (4, 64)]
    assert sum(held) == sum(one.numel() for one in layers) - sum(one.numel() for one in routers)


def test_a_gpus_path_runs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, model = quantised(tmp_path, "granitemoe", monkeypatch)
    executor = make_gpu_executor(folder, implementation=ModelImplementation.AUTO)
    assert_as_transformers(serve(folder, executor, VOCAB), model)


def test_scales_of_other_blocks_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = quantised(tmp_path, "olmoe", monkeypatch)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.experts.gate_up_proj_scale_inv"
    tensors[name] = tensors[name][:, :-1].contiguous()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        ModelInvalidError, match=r"1\.mlp\.experts\.gate_up_proj_scale_inv has shape"
    ):
        make_executor(folder)
