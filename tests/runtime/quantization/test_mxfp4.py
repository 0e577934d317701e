"""Experts in MXFP4, as gpt-oss is published, against transformers' own reading of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from octavo.config import EngineConfig
from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.loading import SafetensorsWeights
from octavo.quantization import stored_format
from octavo.quantization.dequantised_source import DequantisedSource
from octavo.quantization.mxfp4 import Mxfp4
from octavo.quantization.panel_forms import PanelForms
from octavo.worker.start.inspection import inspect_model
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.rank_threads import scores
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor

needs_module(Requirement.NUMBA)

from octavo.kernels.cpu.products.weight_panels import PanelFormat

VOCAB = 112
PUBLISHED = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
}


def packed(
    experts: int, width: int, depth: int, *, least: int, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks of any bytes, and scales from `least` to `most`."""
    blocks = torch.randint(256, (experts, width, depth // 32, 16), dtype=torch.uint8)
    scales = torch.randint(least, most + 1, (experts, width, depth // 32), dtype=torch.uint8)
    return blocks, scales


def test_numbers_are_transformers_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks, scales = packed(3, 5, 64, least=0, most=252)
    save_file({"a.w_blocks": blocks, "a.w_scales": scales}, tmp_path / "model.safetensors")
    source = DequantisedSource(SafetensorsWeights(tmp_path), Mxfp4(), torch.bfloat16)
    assert list(source.names()) == ["a.w"]
    shape = source.shape("a.w")
    assert shape == (3, 64, 5)
    (found,) = source.tensors({"a.w": shape})
    assert torch.equal(found, convert_moe_packed_tensors(blocks, scales))
    source.finish(lambda _: False)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A small gpt-oss as it is stored, and transformers' model of it, float32."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gpt-oss")
    make_generic_checkpoint(folder, "gpt_oss", vocab_size=VOCAB)
    file = folder / "model.safetensors"
    plain, stored = load_file(file), {}
    for name, tensor in plain.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            stored[name] = tensor
            continue
        experts, depth, width = tensor.shape
        blocks, scales = packed(experts, width, depth, least=121, most=124)
        stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        plain[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    save_file(plain, file, metadata={"format": "pt"})
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    save_file(stored, file, metadata={"format": "pt"})
    config = folder / "config.json"
    raw = json.loads(config.read_text()) | {"quantization_config": PUBLISHED}
    config.write_text(json.dumps(raw))
    return folder, model


def test_gpt_oss_as_it_is_published_says_what_transformers_does(
    published: tuple[Path, Any],
) -> None:
    folder, model = published
    executor = make_executor(folder, dtype="float32")
    assert_as_transformers(serve(folder, executor, VOCAB), model)


def test_experts_are_held_in_four_bits_and_counted_so(
    published: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """4.25 bits a weight with their scales, and 32 for each bias."""
    folder, model = published
    held: list[int] = []
    stored = PanelForms.stored

    def noted(*arguments: Any, **named: Any) -> Any:
        linear: Any = stored(*arguments, **named)
        assert linear.panels.format is PanelFormat.GROUPED_MXFP4
        held.append(linear.panels.num_bytes)
        return linear

    monkeypatch.setattr(PanelForms, "stored", noted)
    make_executor(folder, dtype="bfloat16")
    experts = {n: p.numel() for n, p in model.named_parameters() if ".experts." in n}
    biases = sum(count for name, count in experts.items() if name.endswith("_bias"))
    weights = sum(experts.values()) - biases
    assert sum(held) * 8 == 4.25 * weights

    config = EngineConfig(model=str(folder), max_model_len=64, dtype="bfloat16")
    counted = inspect_model(config).weight_bytes
    monkeypatch.setattr(Mxfp4, "layout", lambda *_: None)
    plain = inspect_model(config).weight_bytes
    assert plain - counted == 2 * weights - sum(held) - 2 * biases


def test_ranks_have_whole_blocks_of_each_expert_and_the_scores_of_one(
    published: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three blocks between gate and down, two and one."""
    ((expected, _),) = scores(published[0], 1)
    groups: set[int] = set()
    held = PanelForms.stored

    def noted(*arguments: Any, **named: Any) -> Any:
        groups.add(arguments[2].group)
        return held(*arguments, **named)

    monkeypatch.setattr(PanelForms, "stored", noted)
    found = scores(published[0], 2)
    assert groups == {32}
    torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("nan", "gate_up_proj_scales holds 255"),
        ("missing", "gate_up_proj_scales is missing"),
        ("kind", r"gate_up_proj_blocks is torch.int8, not torch.uint8"),
        ("shape", r"json: [^;]+_scales has shape [^;]+$"),  # and no other fault
    ],
)
def test_damaged_experts_are_one_error_that_names_the_tensor(
    published: tuple[Path, Any], tmp_path: Path, change: str, words: str
) -> None:
    stored = load_file(published[0] / "model.safetensors")
    (name,) = [one for one in stored if one.endswith("0.mlp.experts.gate_up_proj_blocks")]
    scales = name.replace("_blocks", "_scales")
    match change:
        case "nan":
            stored[scales][1, 2, 1] = 255
        case "missing":
            del stored[scales]
        case "kind":
            stored[name] = stored[name].view(torch.int8)
        case "shape":
            stored[scales] = stored[scales][:, :-2]
    (tmp_path / "config.json").write_text((published[0] / "config.json").read_text())
    save_file(
        {name: one.contiguous() for name, one in stored.items()}, tmp_path / "model.safetensors"
    )
    with pytest.raises(ModelInvalidError, match=words):
        make_executor(tmp_path, dtype="float32")


def test_fields_that_are_not_known_are_refused() -> None:
    assert stored_format(PUBLISHED) == Mxfp4()
    with pytest.raises(ModelUnsupportedError, match="block_size"):
        stored_format(PUBLISHED | {"block_size": 16})
