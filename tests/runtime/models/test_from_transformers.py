"""The generic path: transformers' own modules through the whole engine, and what it refuses."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from octavo import LLM, SamplingParams
from octavo.config import EngineConfig, LoadFormat, ModelImplementation, Quantization
from octavo.errors import InvalidConfigurationError, ModelInvalidError, ModelUnsupportedError
from octavo.kernels.reference.weight_only import quantize_int8
from octavo.layers.linear import Linear
from octavo.models.from_transformers.config import read_transformers_config
from octavo.models.from_transformers.interface import Mask
from octavo.models.from_transformers.stand_ins import SharedProduct
from octavo.models.registry import read_model_config
from octavo.worker.start.implementation import check_implementation
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint, save_word_tokenizer
from tests.support.runtime.generic_models import make_generic_checkpoint, without_products
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor

AUTO, TRANSFORMERS = ModelImplementation.AUTO, ModelImplementation.TRANSFORMERS

# Learnt positions and rotary ones, windows in some layers or in the mask alone, scaled and shared heads,
# products without and with biases, a head whose bias is tied as well, norms of each kind. Sinks and
# experts: `test_generic_experts`.
FAMILIES = (
    "cohere",
    "cohere2",
    "gpt2",
    "gpt_bigcode",
    "olmo2",
    "opt",
    "phimoe",
    "roberta",
    "stablelm",
    "starcoder2",
)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_tokens_and_their_probabilities_are_those_of_transformers(
    model_type: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    model = make_generic_checkpoint(tmp_path, model_type)
    answers = serve(tmp_path, make_executor(tmp_path, model_impl=AUTO), VOCAB)
    assert_as_transformers(answers, model)
    assert len({token for answer in answers for token in answer.output}) > 8


def test_so_are_they_on_a_gpus_path_step_by_step(tmp_path: Path) -> None:
    """Others, and recorded decodes: `test_recording`."""
    torch.set_num_threads(1)
    model = make_generic_checkpoint(tmp_path, "cohere2")
    executor = make_gpu_executor(tmp_path, is_padded=False, implementation=AUTO)
    assert_as_transformers(serve(tmp_path, executor, VOCAB), model)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3_moe"])
def test_an_own_family_gives_the_same_by_transformers_modules(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_checkpoint(tmp_path, family)
    own = serve(tmp_path, make_executor(tmp_path, model_impl=AUTO), VOCAB)
    generic = serve(tmp_path, make_executor(tmp_path, model_impl=TRANSFORMERS), VOCAB)
    for ours, theirs in zip(own, generic, strict=True):
        assert ours.output == theirs.output
        torch.testing.assert_close(
            torch.tensor([place.logprobs[0] for place in ours.logprobs]),
            torch.tensor([place.logprobs[0] for place in theirs.logprobs]),
            rtol=1e-3,
            atol=2e-3,
        )


@pytest.mark.parametrize("model_type", ["olmo2", "gpt2", "granitemoe"])
def test_bfloat16_errs_as_little_as_transformers(model_type: str, tmp_path: Path) -> None:
    """Measured by what transformers computes in float32 with the same rounded weights."""
    torch.set_num_threads(1)
    exact = make_generic_checkpoint(tmp_path, model_type)
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.copy_(parameter.bfloat16())
    rounded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.bfloat16, attn_implementation="eager"
    )
    own, theirs = [], []
    for answer in serve(
        tmp_path, make_executor(tmp_path, model_impl=AUTO, dtype="bfloat16"), VOCAB
    ):
        true, other = answer.expected(exact), answer.expected(rounded)
        for place, found in enumerate(answer.logprobs):
            own.append(torch.tensor(found.logprobs) - true[place, found.token_ids])
            theirs.append(other[place, found.token_ids] - true[place, found.token_ids])
    assert torch.cat(own).abs().median() < 1.5 * torch.cat(theirs).abs().median()


def test_several_completions_share_a_prompt(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "olmo2")
    save_word_tokenizer(tmp_path)
    with LLM(str(tmp_path), dtype="float32", device="cpu", kv_cache_memory="8Mi") as llm:
        drawn = SamplingParams(temperature=1.0, seed=3, max_tokens=12, n=3, ignore_eos=True)
        (three,) = llm.generate([list(range(3, 40))], drawn)
        (again,) = llm.generate([list(range(3, 40))], drawn)
    outputs = [one.token_ids for one in three.outputs]
    assert outputs == [one.token_ids for one in again.outputs]
    assert len({tuple(one) for one in outputs}) == 3


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("codegen", "call attention 0 times in 0 modules for 4 layers"),
        ("mamba", "call attention 0 times"),
        ("diffllama", "call attention 8 times in 4 modules for 4 layers"),
        ("deepseek_v2", "latent attention is not implemented"),
        ("bert", "not causal"),
        ("llama4_text", "causal attention within 16 tokens"),
    ],
)
def test_what_would_be_wrong_is_refused_by_name(
    model_type: str, words: str, tmp_path: Path
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "bert": {"is_decoder": False},
        "llama4_text": {"attention_chunk_size": 16},
    }
    make_generic_checkpoint(tmp_path, model_type, **changes.get(model_type, {}))
    with pytest.raises(ModelUnsupportedError, match=words):
        make_executor(tmp_path, model_impl=AUTO)


@pytest.mark.parametrize("spread", [0.25, 0.02])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("bart", "it counts tokens itself"),
        ("blenderbot", "it counts tokens itself"),
        ("plbart", "it counts tokens itself"),
        ("zaya", "reach others beside attention"),
    ],
)
def test_what_is_wrong_is_seen_where_it_is_no_larger_than_a_rounding(
    model_type: str, words: str, dtype: str, spread: float, tmp_path: Path
) -> None:
    name = "init_std" if words.startswith("it") else "initializer_range"
    make_generic_checkpoint(tmp_path, model_type, **{name: spread})
    with pytest.raises(ModelUnsupportedError, match=words):
        make_executor(tmp_path, model_impl=AUTO, dtype=dtype)


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "olmo2")
    (tmp_path / "modeling_own.py").write_text("raise SystemExit('ran')")
    change(tmp_path, model_type="own", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    with pytest.raises(ModelUnsupportedError, match=r"Olmo2ForCausalLM.*'own'.*never run"):
        make_executor(tmp_path, model_impl=AUTO)


def test_tensors_that_do_not_match_are_named(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "olmo2")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 64)
    # What stands in for it would make the check at start say something else.
    tensors["model.embed_tokens.weight"] = torch.zeros(3, 64)
    tensors["model.layers.9.other.weight"] = torch.zeros(3, 3)
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelInvalidError) as caught:
        make_executor(tmp_path, model_impl=AUTO)
    message = str(caught.value)
    assert "model.norm.weight is missing" in message
    assert "model.layers.9.other.weight is unexpected" in message
    assert "model.layers.1.mlp.up_proj.weight has shape [3, 64]" in message
    assert "model.embed_tokens.weight has shape [3, 64]" in message


def test_rotary_tables_of_old_checkpoints_are_ignored(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "olmo2")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)
    save_file(tensors, tmp_path / "model.safetensors")
    make_executor(tmp_path, model_impl=AUTO)


def test_quantisation_is_refused_where_nothing_would_come_of_it(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "gpt2")
    model = without_products(read_model_config(tmp_path, AUTO))
    config = EngineConfig(model=str(tmp_path), quantization=Quantization.INT8)
    with pytest.raises(InvalidConfigurationError, match=r"quantization is int8.*Leave"):
        check_implementation(config, model)


def test_weights_that_lie_transposed_are_rounded_by_outputs(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = make_generic_checkpoint(tmp_path, "gpt2", vocab_size=112, tie_word_embeddings=False)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Conv1D):
                module.weight.copy_(quantize_int8(module.weight.T.contiguous()).dequantize().T)
        model.lm_head.weight.copy_(quantize_int8(model.lm_head.weight).dequantize())
    executor = make_executor(tmp_path, model_impl=AUTO, quantization=Quantization.INT8)
    assert_as_transformers(serve(tmp_path, executor, 112), model)


def test_weights_that_lie_transposed_are_refused_where_they_are_quantised(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "gpt2")
    quantised = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}
    change(tmp_path, quantization_config=quantised)
    with pytest.raises(ModelUnsupportedError, match=r"GPT2LMHeadModel.*transposed.*quantised"):
        make_executor(tmp_path, model_impl=AUTO)


@pytest.mark.parametrize(
    ("model_type", "products", "keeps_tables"),
    [
        # What reads a weight itself, or another class, is left alone; so is what is called apart.
        ("olmo2", [("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj")], False),
        ("olmoe", [("q_proj", "k_proj", "v_proj"), ("o_proj",)], False),
        (
            "stablelm",
            [("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj")],
            False,
        ),
        ("gpt2", [("c_attn",), ("c_proj",), ("c_fc",), ("c_proj",)], False),
        ("gemma", [("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj")], True),
        ("moshi", [("linear",)] * 4, True),
    ],
)
def test_products_are_found_by_who_calls_them_with_what(
    model_type: str, products: list[tuple[str, ...]], keeps_tables: bool, tmp_path: Path
) -> None:
    make_generic_checkpoint(tmp_path, model_type)
    config = read_model_config(tmp_path, TRANSFORMERS)
    found = [tuple(n.rpartition(".")[2] for n in one.names) for one in config.projections()]
    assert found[: len(products)] == products
    assert config.keeps_tables == keeps_tables


def test_a_shared_product_runs_once_for_one_input_and_anew_for_the_next() -> None:
    calls = []

    def linear(x: torch.Tensor, step: object = None) -> torch.Tensor:
        calls.append(x)
        return torch.cat([x, 2 * x, 3 * x], dim=-1)

    shared = SharedProduct(cast("Linear", linear), [2, 2, 2])
    for turn in range(3):
        x = torch.full((1, 4, 2), turn + 1.0)
        # In any order; one that is asked for again before the others is computed again.
        parts = {index: shared.part(x, index) for index in (2, 0, 1)}
        assert all(torch.equal(part, (index + 1) * x) for index, part in parts.items())
    assert len(calls) == 3
    assert torch.equal(shared.part(x, 1), shared.part(x, 1))
    assert len(calls) == 5


def test_the_log_says_whose_code_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make_generic_checkpoint(tmp_path / "generic", "olmo2")
    make_checkpoint(tmp_path / "own", "llama")
    make_executor(tmp_path / "generic", model_impl=AUTO)
    make_executor(tmp_path / "own", model_impl=AUTO)
    assert "Olmo2ForCausalLM runs by transformers' own modules" in caplog.text
    assert "LlamaForCausalLM runs by Octavo's own code" in caplog.text


def test_an_architecture_without_own_code_is_refused_where_that_is_wanted(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "olmo2")
    with pytest.raises(ModelUnsupportedError, match="Olmo2ForCausalLM"):
        make_executor(tmp_path, model_impl=ModelImplementation.OCTAVO)


def test_random_weights_need_no_checkpoint(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "granitemoe")
    (tmp_path / "model.safetensors").unlink()
    executor = make_executor(tmp_path, model_impl=AUTO, load_format=LoadFormat.DUMMY)
    assert executor.info.vocab_size == VOCAB


def test_longrope_runs_up_to_where_its_factors_change(tmp_path: Path) -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 64,
    }
    make_generic_checkpoint(tmp_path, "olmo2", rope_parameters=rope)
    assert read_transformers_config(tmp_path, raw(tmp_path)).spec.context == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rms_norm_eps": -1.0}, "rms_norm_eps is -1; it must be 0 or more"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan; it must be a finite number"),
        ({"initializer_range": float("inf")}, "initializer_range is inf; it must be a finite"),
    ],
)
def test_numbers_that_make_every_score_nan_are_named(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    make_generic_checkpoint(tmp_path, "olmo2")
    change(tmp_path, **fields)
    with pytest.raises(ModelInvalidError, match=message):
        read_model_config(tmp_path, AUTO)


def test_a_mask_is_judged_by_what_it_sees() -> None:
    def causal(_: Any, __: Any, query: Any, key: Any) -> Any:
        return key <= query

    def windowed(_: Any, __: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (key > query - 8)

    def chunked(_: Any, __: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (key // 8 == query // 8)

    def both_ways(_: Any, __: Any, query: Any, key: Any) -> Any:
        return key >= 0

    assert Mask(causal, None).is_as_said()
    assert Mask(windowed, 8).is_as_said()
    wrong = [Mask(causal, 8), Mask(windowed, None), Mask(chunked, 8), Mask(both_ways, None)]
    wrong += [Mask(windowed, 7), Mask(windowed, 9), Mask(chunked, None)]
    assert not any(mask.is_as_said() for mask in wrong)


def raw(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def change(folder: Path, **fields: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**raw(folder), **fields}))
