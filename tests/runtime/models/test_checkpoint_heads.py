"""Heads of checkpoints: tied, stored all the same, or none, as transformers takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from octavo import LLM, SamplingParams
from octavo.config import EngineConfig, Quantization
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError, ModelInvalidError, OutOfMemoryError
from octavo.loading import SafetensorsWeights
from octavo.models.registry import read_model_config
from octavo.models.stored_tables import with_stored_head
from octavo.worker import machine
from octavo.worker.start.weight_bytes import weight_bytes
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint, save_word_tokenizer
from tests.support.runtime.gpu_path import Overlapped, Running, make_gpu_executor
from tests.support.runtime.stepping import Stepper, make_executor

FAMILIES = (
    "bloom",
    "falcon",
    "gemma2",
    "gemma3",
    "gpt_neox",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "mpt",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
)
PROMPT = [5, 6, 7, 8, 30, 9]


def say_tied(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    """Stores a tensor in the checkpoint, or takes it out."""
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def greedy_of_transformers(folder: Path, count: int = 12) -> list[int]:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    output = model.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens: list[int] = output[0, len(PROMPT) :].tolist()
    return tokens


def greedy(folder: Path, count: int = 12, **changes: Any) -> list[int]:
    stepper = Stepper(make_executor(folder, **changes))
    generation = stepper.sequence(PROMPT)
    stepper.step([(generation, len(PROMPT))])
    for _ in range(count - 1):
        stepper.step([(generation, 1)])
    return generation.output


def greedy_on_gpu_path(folder: Path, count: int = 12) -> list[int]:
    steps = Overlapped(make_gpu_executor(folder))
    sequence = Running(0, list(PROMPT))
    steps.submit([(sequence, len(PROMPT))])
    for _ in range(count - 1):
        steps.submit([(sequence, 1)])
    steps.take()
    return sequence.output


@pytest.mark.parametrize("family", FAMILIES)
def test_another_head_is_kept_though_the_config_calls_it_tied(family: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, family, tie_word_embeddings=False)
    untied = greedy(tmp_path)
    say_tied(tmp_path)
    expected = greedy_of_transformers(tmp_path)
    assert len(set(expected)) > 3
    assert greedy(tmp_path) == expected == untied
    assert greedy_on_gpu_path(tmp_path) == expected


@pytest.mark.parametrize("stored", ["equal", "none", "one number differs", "the head alone"])
def test_a_tied_head_is_the_embeddings_unless_what_is_stored_differs(
    stored: str, tmp_path: Path
) -> None:
    make_checkpoint(tmp_path, tie_word_embeddings=True)
    table = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    if stored == "equal":
        change(tmp_path, "lm_head.weight", table.clone())
    if stored == "the head alone":
        change(tmp_path, "lm_head.weight", table.clone())
        change(tmp_path, "model.embed_tokens.weight", None)
    if stored == "one number differs":
        other = table.clone()
        other[11] += 9.0
        change(tmp_path, "lm_head.weight", other)
    expected = greedy_of_transformers(tmp_path)
    assert greedy(tmp_path) == expected
    assert greedy_on_gpu_path(tmp_path) == expected


def test_a_rounded_copy_is_a_head_of_its_own(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, tie_word_embeddings=True)
    table = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    for head, is_tied in (
        (table.bfloat16(), False),
        (table.bfloat16().float(), False),
        (table, True),
    ):
        change(tmp_path, "lm_head.weight", head.clone())
        config = with_stored_head(read_model_config(tmp_path), SafetensorsWeights(tmp_path))
        assert config.is_tied == is_tied


@pytest.mark.parametrize("stored", ["equal", "another"])
def test_the_check_of_memory_counts_a_head_that_is_stored(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for the model as config.json calls it, tied, and not for two tables."""
    make_checkpoint(tmp_path, tie_word_embeddings=True, vocab_size=40_000)
    table = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    change(tmp_path, "lm_head.weight", table.clone() + (stored == "another"))
    tied = weight_bytes(read_model_config(tmp_path), torch.float32)
    room = tied + table.nbytes // 2
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: room)
    if stored == "equal":
        make_executor(tmp_path, kv_cache_memory_bytes=2**20)
        return
    with pytest.raises(OutOfMemoryError, match="its weights take"):
        make_executor(tmp_path, kv_cache_memory_bytes=2**20)


def test_a_rounded_model_keeps_another_head_too(tmp_path: Path) -> None:
    """Near enough for int8: the tied head's tokens are others."""
    needs_module(Requirement.NUMBA)
    sizes: dict[str, Any] = {
        "vocab_size": 112,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "head_dim": 16,
    }
    make_checkpoint(tmp_path, tie_word_embeddings=False, intermediate_size=96, **sizes)
    untied = greedy(tmp_path, quantization=Quantization.INT8)
    say_tied(tmp_path)
    assert greedy(tmp_path, quantization=Quantization.INT8) == untied


def test_a_stored_head_of_another_shape_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, tie_word_embeddings=True)
    change(tmp_path, "lm_head.weight", torch.zeros(5, 48))
    with pytest.raises(ModelInvalidError, match=r"lm_head\.weight has shape \[5, 48\]"):
        make_executor(tmp_path)


def save_base(folder: Path, family: str, *, has_prefix: bool) -> Any:
    """The model without its head, as transformers saves it; or with names that begin as the whole's do."""
    whole = make_checkpoint(folder / "whole", family, tie_word_embeddings=False)
    model = whole.base_model
    model.save_pretrained(folder)
    if has_prefix:
        tensors = load_file(folder / "model.safetensors")
        tensors = {f"{whole.base_model_prefix}.{name}": tensors[name] for name in tensors}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_word_tokenizer(folder)
    return model


# With names that begin as the whole's do, those of each kind of prefix.
@pytest.mark.parametrize(
    ("family", "has_prefix"),
    [
        *((family, False) for family in FAMILIES),
        *((family, True) for family in ("bloom", "gpt_neox", "qwen3")),
    ],
)
def test_base_class_checkpoints_embed_as_transformers_does(
    family: str, has_prefix: bool, tmp_path: Path
) -> None:
    model = save_base(tmp_path, family, has_prefix=has_prefix)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        type(model).__name__
    ]
    prompts = [PROMPT, [3], [(7 * i) % VOCAB for i in range(40)]]
    with LLM(str(tmp_path), dtype="float32", kv_cache_memory_bytes=2**22) as llm:
        outputs = llm.embed(prompts)
        with pytest.raises(InvalidParameterError, match="no head to generate with"):
            llm.generate([PROMPT], SamplingParams(max_tokens=1))
    for prompt, output in zip(prompts, outputs, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([prompt])).last_hidden_state[0, -1]
        expected = hidden / hidden.norm()
        torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)


def test_a_gpus_path_embeds_with_a_base_class_checkpoint_too(tmp_path: Path) -> None:
    model = save_base(tmp_path, "qwen3", has_prefix=False)
    config = EngineConfig(model=str(tmp_path), max_num_seqs=16, max_num_batched_tokens=512)
    core = EngineCore(config, make_gpu_executor(tmp_path), is_debugging=True)
    params = SamplingParams(temperature=0.0, max_tokens=1)
    core.add(AddRequest("a", PROMPT, params, is_pooled=True))
    with pytest.raises(InvalidParameterError, match="no head to generate with"):
        core.add(AddRequest("b", PROMPT, params))
    outputs = []
    while core.has_work:
        outputs += core.step().outputs
    with torch.no_grad():
        hidden = model(torch.tensor([PROMPT])).last_hidden_state[0, -1]
    (found,) = [output.embedding for output in outputs if output.embedding is not None]
    torch.testing.assert_close(torch.tensor(found), hidden / hidden.norm(), rtol=1e-3, atol=1e-4)


def test_a_causal_checkpoint_whose_names_lack_the_prefix_generates(tmp_path: Path) -> None:
    """As Qwen3-Embedding is published."""
    make_checkpoint(tmp_path, "qwen3", tie_word_embeddings=True)
    expected = greedy(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    tensors["rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert greedy(tmp_path) == expected
    del tensors["layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelInvalidError, match=r": layers\.1\.mlp\.up_proj\.weight is missing"):
        make_executor(tmp_path)


def test_a_causal_checkpoint_that_was_saved_without_its_head_embeds(tmp_path: Path) -> None:
    """As Qwen3-Embedding-8B is published: its config names the class with a head, which is not tied."""
    whole = make_checkpoint(tmp_path, "qwen3", tie_word_embeddings=False)
    whole.model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    named = {"architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    save_word_tokenizer(tmp_path)
    with LLM(str(tmp_path), dtype="float32", kv_cache_memory_bytes=2**22) as llm:
        (output,) = llm.embed([PROMPT])
        with pytest.raises(InvalidParameterError, match="no head to generate with"):
            llm.generate([PROMPT], SamplingParams(max_tokens=1))
    with torch.no_grad():
        hidden = whole.model(torch.tensor([PROMPT])).last_hidden_state[0, -1]
    expected = hidden / hidden.norm()
    torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)
