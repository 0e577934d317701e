"""EAGLE-3 heads against transformers' layers, composed as the paper says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from octavo.errors import ModelInvalidError, ModelUnsupportedError, OctavoError
from octavo.kernels.select import kernels_for
from octavo.loading import Placement, SafetensorsWeights
from octavo.models.eagle3 import Eagle3Head, build_eagle3, read_eagle3_config
from octavo.quantization.forms import table_lookup
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.step_memory import StepMemory
from tests.support.runtime.eagle_heads import ReferenceHead

CPU = Placement(torch.float32, torch.device("cpu"))
WATCHED = (0, 2, 3)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "residual": {"flags": ("norm_before_residual", "norm_before_fc"), "draft_vocab_size": 100},
    "3.1": {"kind": "qwen3", "flags": ("fc_norm", "norm_output"), "draft_vocab_size": 64},
    "biases": {
        "attention_bias": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
}


def loaded(folder: Path, embed: torch.Tensor | None = None) -> Eagle3Head:
    config = read_eagle3_config(folder)
    return build_eagle3(
        config,
        SafetensorsWeights(folder),
        watched=config.watched_of(4) if config.watched else WATCHED,
        embed=table_lookup(torch.zeros(261, 64) if embed is None else embed),
        kernels=kernels_for(CPU.device),
        placement=CPU,
    )


def as_older(folder: Path) -> None:
    """What `speculators` wrote, in the layout that was published first."""
    raw = json.loads((folder / "config.json").read_text())
    older = {**raw["transformer_layer_config"], "draft_vocab_size": raw["draft_vocab_size"]}
    older["architectures"] = ["LlamaForCausalLMEagle3"]
    older["eagle_config"] = {
        "use_aux_hidden_state": True,
        "eagle_aux_hidden_state_layer_ids": [0, 2, 3],
    }
    (folder / "config.json").write_text(json.dumps(older))
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    renamed = {name.replace("layers.0.", "midlayer."): one for name, one in tensors.items()}
    safetensors.torch.save_file(renamed, folder / "model.safetensors")


@pytest.mark.parametrize("variant", [*VARIANTS, "older"])
@torch.inference_mode()
def test_a_prompt_and_guesses_of_guesses_are_those_of_the_reference(
    tmp_path: Path, variant: str
) -> None:
    torch.manual_seed(3)
    reference = ReferenceHead(**VARIANTS.get(variant, {"draft_vocab_size": 128})).eval()
    drop = () if variant == "residual" else ("embed_tokens.weight",)
    reference.save(tmp_path, drop=drop, eagle_aux_hidden_state_layer_ids=[0, 2, 3])
    if variant == "older":
        as_older(tmp_path)
    head = loaded(tmp_path, reference.embed_tokens.weight.detach())
    memory = StepMemory(
        head.spec,
        num_blocks=8,
        max_model_len=64,
        block_size=16,
        max_tokens=64,
        device=CPU.device,
        dtype=CPU.dtype,
        cache_dtype=CPU.dtype,
    )
    states = [torch.randn(21, 64) for _ in WATCHED]
    tokens, hidden = torch.randint(0, 261, (21,)), reference.fuse(states)
    torch.testing.assert_close(head.fuse(torch.cat(states, -1)), hidden, rtol=1e-4, atol=1e-4)
    start = 0
    for count in (14, 7, 1, 1):  # a chunk, a second one, and two guesses
        batch = [ScheduledSequence(0, tokens[start : start + count].tolist(), start, [5, 3], None)]
        inputs, step = memory.prepare(batch)
        rows = hidden[start : start + count]
        stream = head.forward(inputs.token_ids, rows, memory.caches[0], step)
        wanted = reference(tokens, hidden)[start:]
        torch.testing.assert_close(stream, wanted[:count], rtol=1e-4, atol=1e-4)
        scores = reference.scores(wanted[:count])
        torch.testing.assert_close(head.logits(stream), scores, rtol=1e-4, atol=1e-4)
        carried = head.carried(stream[-1:])
        torch.testing.assert_close(
            carried, reference.carried(wanted[count - 1 : count]), rtol=1e-4, atol=1e-4
        )
        start += count
        if start >= len(tokens):
            tokens = torch.cat([tokens, scores[-1:].argmax(-1)])
            hidden = torch.cat([hidden, reference.carried(wanted[count - 1 : count])])


def test_a_table_that_is_the_models_is_not_kept_twice(tmp_path: Path) -> None:
    reference = ReferenceHead()
    reference.save(tmp_path, eagle_aux_hidden_state_layer_ids=[0, 2, 3])
    own = table_lookup(reference.embed_tokens.weight.detach())
    config = read_eagle3_config(tmp_path)

    def embed_of(shared: Any) -> Any:
        source, kernels = SafetensorsWeights(tmp_path), kernels_for(CPU.device)
        built = build_eagle3(
            config, source, watched=WATCHED, embed=shared, kernels=kernels, placement=CPU
        )
        return built.embed

    assert embed_of(own) is own
    other = embed_of(table_lookup(torch.zeros(261, 64)))
    assert torch.equal(other(torch.tensor([7])), own(torch.tensor([7])))


LAYER = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 261}
LAYER |= {"intermediate_size": 96, "num_hidden_layers": 1}
KNOWN = {"algorithm": "eagle3", "proposal_methods": [{"proposal_type": "greedy"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"speculators_model_type": "dflash"},
            "speculators_model_type is 'dflash'; implemented is",
        ),
        (
            {"speculators_config": KNOWN | {"algorithm": "mtp"}},
            "speculators_config.algorithm is 'mtp'",
        ),
        (
            {"speculators_config": KNOWN | {"proposal_methods": [{"proposal_type": "tree"}]}},
            "proposes by .'tree', 'greedy'.; implemented is 'greedy'",
        ),
        (
            {"speculators_config": KNOWN | {"proposal_methods": None}},
            "proposal_methods is None; it must be a list of objects",
        ),
        (
            {"speculators_config": KNOWN | {"proposal_methods": 3}},
            "proposal_methods is 3; it must be a list of objects",
        ),
        (
            {"speculators_config": KNOWN | {"proposal_methods": ["greedy"]}},
            "it must be a list of objects",
        ),
        ({"draft_vocab_size": 262}, "draft_vocab_size is 262; it must be at most vocab_size, 261"),
        (
            {"transformer_layer_config": LAYER | {"model_type": ["llama"]}},
            r"model_type is \['llama'\]; implemented",
        ),
        (
            {"transformer_layer_config": LAYER | {"rope_parameters": {"rope_type": ["yarn"]}}},
            r"rope_type is \['yarn'\]; implemented",
        ),
        (
            {"transformer_layer_config": LAYER | {"rms_norm_eps": -1e-6}},
            "transformer_layer_config.rms_norm_eps is -1e-06; it must be 0 or more",
        ),
        ({"speculators_config": KNOWN | {"beam": 3}}, r"what speculators_config.beam \(3\) means"),
        ({"mystery": 1}, r"what mystery \(1\) means"),
        (
            {"transformer_layer_config": LAYER | {"mystery": 1}},
            r"transformer_layer_config.mystery \(1\) means",
        ),
        (
            {"transformer_layer_config": LAYER | {"model_type": "mla"}},
            "model_type is 'mla'; implemented",
        ),
        ({"transformer_layer_config": LAYER | {"num_hidden_layers": 2}}, "num_hidden_layers is 2"),
        (
            {"transformer_layer_config": [1]},
            "transformer_layer_config is .1.; it must be an object",
        ),
        ({"norm_before_fc": "yes"}, "norm_before_fc is 'yes'; it must be true or false"),
        ({"eagle_aux_hidden_state_layer_ids": [1, "2"]}, "it must be a list of integers"),
        (
            {"eagle_aux_hidden_state_layer_ids": [0, 1, 4]},
            r"is \[0, 1, 4\]; the ids must differ and lie in",
        ),
        ({"eagle_aux_hidden_state_layer_ids": [1, 1, 2]}, "the ids must differ"),
        (
            {},
            r"is \[2, 2, 1\] \(the default\); the ids must differ.* Name there those that the head was",
        ),
        ({"quantization_config": {"quant_method": "awq"}}, "is quantised"),
        (
            {"speculators_config": None, "speculators_model_type": None},
            "speculators_model_type is None",
        ),
    ],
)
def test_what_a_config_says_and_nobody_knows_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    raw = {
        "speculators_model_type": "eagle3",
        "speculators_config": KNOWN,
        "transformer_layer_config": LAYER,
    }
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(OctavoError, match=message):
        read_eagle3_config(tmp_path).watched_of(4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architectures": ["LlamaForCausalLM"]},
            "there is no speculators_config; EAGLE-3 heads are",
        ),
        ({"architectures": [["x"]]}, r"architectures is \[\['x'\]\], and there is no"),
        ({"architectures": [{}]}, r"architectures is \[{}\], and there is no"),
        ({"architectures": []}, r"architectures is \[\], and there is no"),
        ({"eagle_config": {"use_aux_hidden_state": False}}, "use_aux_hidden_state is false"),
        ({"eagle_config": {"other": 1}}, r"what eagle_config.other \(1\) means"),
    ],
)
def test_older_heads_are_refused_likewise(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    raw = {"architectures": ["LlamaForCausalLMEagle3"], **LAYER} | change
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ModelUnsupportedError, match=message):
        read_eagle3_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"fc.weight": torch.zeros(64, 128)},
            r"fc.weight has shape \[64, 128\] where config.json says",
        ),
        ({"layers.0.hidden_norm.weight": None}, "layers.0.hidden_norm.weight is missing"),
        ({"lm_head.weight": None}, "lm_head.weight is missing"),
        ({"d2t": None}, "d2t is missing"),
        ({"d2t": torch.zeros(100)}, "d2t does not name 100 different tokens of the 261"),
        ({"d2t": torch.full((100,), 200)}, "d2t does not name 100"),
        (
            {"layers.1.mlp.up_proj.weight": torch.zeros(2, 2)},
            "layers.1.mlp.up_proj.weight is unexpected",
        ),
    ],
)
def test_weights_that_do_not_match_are_named(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    reference = ReferenceHead(draft_vocab_size=100)
    reference.save(tmp_path, eagle_aux_hidden_state_layer_ids=[0, 2, 3])
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors") | change
    kept = {name: one for name, one in tensors.items() if one is not None}
    safetensors.torch.save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(ModelInvalidError, match=message):
        loaded(tmp_path)
