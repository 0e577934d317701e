"""Experts of transformers' modules: by Octavo's products, or by transformers' own."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.config import ModelImplementation, Quantization
from octavo.kernels.expert_gate import GELU_TANH, SILU, ExpertGate
from octavo.kernels.reference.gated_activation import gated
from octavo.kernels.reference.weight_only import quantize_int4, quantize_int8
from octavo.layers.moe import ExpertBlocks, ExpertProduct, ExpertStacks
from octavo.models.from_transformers.config import TransformersConfig
from octavo.models.from_transformers.gates import known_gate
from octavo.models.registry import read_model_config
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor

AUTO, TRANSFORMERS = ModelImplementation.AUTO, ModelImplementation.TRANSFORMERS
OURS = "Experts of {} layers run by Octavo's products."


@pytest.mark.parametrize(
    ("model_type", "count"),
    [
        ("aria_text", 4),  # a layer's in one stack, inputs before outputs
        ("beam", 1),  # a gate of its own, in float32
        ("gpt_oss", 4),  # another one, biases, gate and up in turns, inputs before outputs
        ("granitemoe", 4),  # a layer's in one stack
        ("minimax_m2", 4),  # one by one, by Mixtral's names
        ("olmoe", 4),  # one by one
    ],
)
def test_a_cpu_runs_every_kind_of_gate_and_storage(
    model_type: str, count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_num_threads(1)
    caplog.set_level(logging.INFO)
    model = make_generic_checkpoint(tmp_path, model_type)
    answers = serve(tmp_path, make_executor(tmp_path, model_impl=AUTO), VOCAB)
    assert_as_transformers(answers, model)
    assert OURS.format(count) in caplog.text


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("aria_text", OURS.format(4)),
        ("olmoe", OURS.format(4)),
        ("beam", OURS.format(1)),
        ("gpt_oss", OURS.format(4)),
    ],
)
def test_a_gpus_path_runs_what_its_kernels_compute(
    model_type: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_num_threads(1)
    caplog.set_level(logging.INFO)
    model = make_generic_checkpoint(tmp_path, model_type)
    executor = make_gpu_executor(tmp_path, implementation=AUTO)
    assert_as_transformers(serve(tmp_path, executor, VOCAB), model)
    assert words in caplog.text


@pytest.mark.parametrize("is_gpu", [False, True])
def test_rounded_experts_are_those_of_octavos_own_family(is_gpu: bool, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_generic_checkpoint(tmp_path, "qwen3_moe", num_hidden_layers=2)

    def outputs(kind: ModelImplementation) -> list[list[int]]:
        rounding: dict[str, Any] = {"quantization": Quantization.INT4}
        if is_gpu:
            executor: Any = make_gpu_executor(tmp_path, implementation=kind, **rounding)
        else:
            executor = make_executor(tmp_path, model_impl=kind, **rounding)
        return [answer.output for answer in serve(tmp_path, executor, VOCAB)]

    assert outputs(TRANSFORMERS) == outputs(ModelImplementation.OCTAVO)


def test_what_is_stored_in_another_way_is_transformers_affair(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is missing: it says what is wrong, as of any other tensor."""
    caplog.set_level(logging.INFO)
    make_generic_checkpoint(tmp_path, "olmoe", num_hidden_layers=2)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.2.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(Exception, match=r"1\.mlp\.experts\.gate_up_proj is stored in"):
        make_executor(tmp_path, model_impl=AUTO)
    assert "model.layers.1.mlp.experts.gate_up_proj is stored in another way" in caplog.text


def test_bytes_of_rounded_experts_are_counted(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "olmoe", num_hidden_layers=2)
    config = read_model_config(tmp_path, AUTO)
    assert isinstance(config, TransformersConfig)
    names = [name for one in config.projections() for name in one.names]
    assert "model.layers.0.mlp.experts.3.down_proj" in names
    assert not [one for one in config.kept_projections() if "experts" in one.names[0]]


@pytest.mark.parametrize(
    ("quantization", "width", "inner", "vocab"),
    [
        (Quantization.INT8, 64, 64, 112),
        (Quantization.INT4, 64, 32, 112),
        (Quantization.INT4, 72, 40, 104),
    ],
)
def test_rounded_are_the_matrices_that_the_documents_name(
    quantization: Quantization, width: int, inner: int, vocab: int, tmp_path: Path
) -> None:
    """Of a model that may have as many experts as there are outputs of the shared expert's gate."""
    torch.set_num_threads(1)
    sizes = {"hidden_size": width, "moe_intermediate_size": inner, "intermediate_size": inner}
    heads = {"num_experts": 32, "num_attention_heads": 2}
    model = make_generic_checkpoint(tmp_path, "exaone_moe", vocab_size=vocab, **heads, **sizes)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_router = weight.shape[0] == 32 and weight.dim() == 2 and "self_attn" not in name
            if weight.dim() < 2 or is_router or "embed_tokens" in name:
                continue
            outputs = weight.shape[-2]
            if name.endswith(("gate_proj.weight", "up_proj.weight")):
                outputs *= 2
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
                outputs *= 3
            _round(weight, outputs, Quantization.INT8 if name == "lm_head.weight" else quantization)
    executor = make_executor(tmp_path, model_impl=AUTO, quantization=quantization)
    assert_as_transformers(serve(tmp_path, executor, vocab), model)


def _round(weight: torch.Tensor, outputs: int, quantization: Quantization) -> None:
    """As the page "Quantised weights" says of CPUs."""
    inputs = weight.shape[-1]
    if inputs % 8 or outputs % 16:
        return
    is_int4 = quantization is Quantization.INT4 and not inputs % 32
    rounded = (quantize_int4 if is_int4 else quantize_int8)(weight.view(-1, inputs))
    weight.copy_(rounded.dequantize().view(weight.shape))


def test_a_gate_is_known_by_what_it_computes() -> None:
    def module(gate: Any, **numbers: float) -> Any:
        return SimpleNamespace(_apply_gate=gate, **numbers)

    gpt_oss = ExpertGate(alpha=1.7, limit=7.0, shift=1.0)
    bounded = ExpertGate(limit=50.0)
    for own in (SILU, GELU_TANH, gpt_oss, bounded):
        numbers = {"alpha": 1.7, "swiglu_limit": own.limit or 7.0}
        found = module(lambda both, own=own: gated(both, own), **numbers)
        assert known_gate(found, is_interleaved=False) == own
    in_turns = module(
        lambda both: gated(torch.cat((both[:, ::2], both[:, 1::2]), -1), gpt_oss),
        alpha=1.7,
        limit=7.0,
    )
    assert known_gate(in_turns, is_interleaved=True) == gpt_oss
    assert known_gate(module(lambda both: both[:, ::2].relu()), is_interleaved=False) is None
    assert known_gate(module(torch.nn.Linear(3, 3)), is_interleaved=False) is None


def test_both_forms_of_chosen_experts_agree() -> None:
    from octavo.kernels.reference import device as kernels

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(9, 8, generator=generator)
    gate_up = torch.randn(5, 12, 8, generator=generator)
    down = torch.randn(5, 8, 6, generator=generator)
    chosen = torch.rand(9, 6, generator=generator).topk(2).indices  # the sixth is nobody
    shares = torch.rand(9, 2, generator=generator)

    def block(index: int) -> Any:
        return lambda rows: kernels.silu_and_mul(rows @ gate_up[index].T) @ down[index].T

    blocks = ExpertBlocks([block(index) for index in range(5)])
    stacks = ExpertStacks(ExpertProduct(gate_up), ExpertProduct(down), kernels, SILU)
    torch.testing.assert_close(blocks(x, chosen, shares), stacks(x, chosen, shares))
    live = torch.tensor([4], dtype=torch.int32)
    padded = stacks(x, chosen, shares, live)
    torch.testing.assert_close(padded[:4], blocks(x[:4], chosen[:4], shares[:4]))
    assert not padded[4:].any()
