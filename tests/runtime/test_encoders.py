"""`LLM.embed` with encoders, against transformers and the steps of sentence-transformers spelt out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo import LLM
from octavo.errors import InvalidParameterError, ModelInvalidError, ModelUnsupportedError
from octavo.models.registry import ENCODERS
from tests.support.runtime.encoders import (
    BASE,
    CLS,
    KINDS,
    MASKED_LM,
    PAD,
    SEP,
    make_encoder,
    write_modules,
)

MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
# Of one length and of several, in no order, with what stands for padding in the middle.
PROMPTS = [
    [CLS, 9, 10, SEP],
    [CLS, *range(5, 40), SEP],
    [CLS, 20, 9, SEP],
    [7],
    [CLS, 8, PAD, 9, 10, PAD, 11, SEP],
    [CLS, *range(60, 20, -1), SEP],
]
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls_token": lambda hidden: hidden[0],
    "lasttoken": lambda hidden: hidden[-1],
    "max_tokens": lambda hidden: hidden.max(dim=0).values,
    "mean_tokens": lambda hidden: hidden.mean(dim=0),
}


def start(folder: Path, **options: Any) -> LLM:
    return LLM(str(folder), dtype="float32", device="cpu", **options)


def check(
    llm: LLM,
    reference: Any,
    pooled: Callable[[torch.Tensor], torch.Tensor] = POOLINGS["mean_tokens"],
) -> None:
    outputs = llm.embed(PROMPTS)
    assert [output.prompt_token_ids for output in outputs] == PROMPTS
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        with torch.no_grad():
            hidden = reference(torch.tensor([prompt])).last_hidden_state[0]
        found = torch.tensor(output.embedding)
        torch.testing.assert_close(found, pooled(hidden), rtol=1e-5, atol=1e-5)


def test_the_families_are_these() -> None:
    stems = {name.removesuffix("Model") for name in ENCODERS if name.endswith("Model")}
    roberta = {"Roberta", "XLMRoberta", "Camembert"}
    assert stems == {"Bert", "ModernBert", "NomicBert", *roberta}


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    reference = make_encoder(tmp_path, kind)
    write_modules(tmp_path, MEAN)
    with start(tmp_path) as llm:
        check(llm, reference)


THETAS = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
        ("modernbert", {"hidden_activation": "silu", "local_attention": 2}),
        ("modernbert", {"rope_parameters": THETAS, "num_hidden_layers": 5}),
        ("modernbert", {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}),
        ("nomic-bert", {"hidden_act": "gelu", "type_vocab_size": 1}),
        ("nomic-bert", {"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}),
    ],
)
def test_variants_are_those_of_transformers(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    reference = make_encoder(tmp_path, kind, **changes)
    write_modules(tmp_path, MEAN)
    with start(tmp_path) as llm:
        check(llm, reference)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "nomic-bert"])
def test_bfloat16_errs_as_little_as_transformers(kind: str, tmp_path: Path) -> None:
    reference = make_encoder(tmp_path, kind)
    write_modules(tmp_path, MEAN)
    with LLM(str(tmp_path), dtype="bfloat16", device="cpu") as llm:
        found = [torch.tensor(output.embedding) for output in llm.embed(PROMPTS)]

    def hidden(dtype: torch.dtype) -> list[torch.Tensor]:
        model = reference.to(dtype)
        with torch.no_grad():
            states = [model(torch.tensor([one])).last_hidden_state[0] for one in PROMPTS]
        return [state.float().mean(dim=0) for state in states]

    exact, theirs = torch.stack(hidden(torch.float32)), torch.stack(hidden(torch.bfloat16))
    error = (torch.stack(found) - exact).abs().mean()
    assert error < 1.5 * (theirs - exact).abs().mean() + 1e-4


@pytest.mark.parametrize("mode", POOLINGS)
@pytest.mark.parametrize("is_new", [False, True])
def test_poolings_are_what_the_folder_says(mode: str, is_new: bool, tmp_path: Path) -> None:
    reference = make_encoder(tmp_path, "bert")
    short = mode.removesuffix("_tokens").removesuffix("_token")
    write_modules(
        tmp_path, {"pooling_mode": short} if is_new else {f"pooling_mode_{mode}": True}, "Normalize"
    )
    with start(tmp_path) as llm:
        check(
            llm,
            reference,
            lambda hidden: torch.nn.functional.normalize(POOLINGS[mode](hidden), dim=0),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_of_pre_training_is_left_out(kind: str, tmp_path: Path) -> None:
    """What is stored has the prefix then, and no pooler."""
    model = make_encoder(tmp_path, kind, MASKED_LM)
    write_modules(tmp_path, MEAN)
    with start(tmp_path) as llm:
        check(llm, model.base_model)


def test_names_of_old_checkpoints_are_taken(tmp_path: Path) -> None:
    reference = make_encoder(tmp_path, "bert")
    write_modules(tmp_path, MEAN)
    path = tmp_path / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(path).items()
    }
    save_file({**old, "embeddings.position_ids": torch.arange(128)[None]}, path)
    with start(tmp_path) as llm:
        check(llm, reference)


def test_a_step_holds_no_more_than_its_tokens(tmp_path: Path) -> None:
    """Prompts of 4, 37, 4, 1, 8 and 42 tokens: never more than 42, nor two sequences."""
    reference = make_encoder(tmp_path, "bert")
    write_modules(tmp_path, MEAN)
    with start(tmp_path, max_model_len=42, max_num_batched_tokens=16, max_num_seqs=2) as llm:
        check(llm, reference)
        assert llm.stats.step == 4
        assert llm.stats.prompt_tokens_total == 96
    with start(tmp_path) as llm:
        check(llm, reference)
        check(llm, reference)  # nothing of the prompts is kept
        assert llm.stats.step == 2
        assert llm.stats.kv_blocks_used == 0


def test_a_prompt_may_fill_the_context_and_no_more(tmp_path: Path) -> None:
    reference = make_encoder(tmp_path, "roberta")
    write_modules(tmp_path, MEAN)
    with start(tmp_path) as llm:
        assert llm.max_model_len == 126  # two rows of positions are the padding token's
        (output,) = llm.embed([[9] * 126])
        with torch.no_grad():
            hidden = reference(torch.tensor([[9] * 126])).last_hidden_state[0]
        torch.testing.assert_close(
            torch.tensor(output.embedding), hidden.mean(dim=0), rtol=1e-5, atol=1e-5
        )
        with pytest.raises(InvalidParameterError, match="127 tokens, but the context holds 126"):
            llm.embed([[9] * 127])


def test_text_is_lowered_and_limited_as_the_folder_says(tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert")
    write_modules(tmp_path, MEAN)
    options = tmp_path / "sentence_bert_config.json"
    with start(tmp_path) as llm:
        assert llm.max_model_len == 128
        upper, lower = llm.embed(["THE man", "the man"])
        assert upper.embedding != lower.embedding
    options.write_text(json.dumps({"max_seq_length": 8, "do_lower_case": True}))
    with start(tmp_path) as llm:
        assert llm.max_model_len == 8
        upper, lower = llm.embed(["THE man", "the man"])
        assert upper == type(upper)(upper.request_id, lower.prompt_token_ids, lower.embedding)
    with start(tmp_path, max_model_len=100) as llm:
        assert llm.max_model_len == 100
    options.write_text(json.dumps({"max_seq_length": "8"}))
    with pytest.raises(ModelInvalidError, match="max_seq_length is '8'"):
        start(tmp_path)
    options.write_text(json.dumps({"module_output_name": "token_embeddings"}))
    tokenizer = tmp_path / "tokenizer_config.json"
    whole = json.loads(tokenizer.read_text())
    for limit, longest in ((9, 9), (10**30, 128), (1e30, 128)):
        tokenizer.write_text(json.dumps({**whole, "model_max_length": limit}))
        with start(tmp_path) as llm:
            assert llm.max_model_len == longest


def test_vectors_are_as_short_as_the_folder_says(tmp_path: Path) -> None:
    """As sentence-transformers cuts them: what is left keeps its length."""
    make_encoder(tmp_path, "bert")
    write_modules(tmp_path, MEAN, "Normalize")
    with start(tmp_path) as llm:
        whole = llm.embed(PROMPTS[0])[0].embedding
    options = tmp_path / "config_sentence_transformers.json"
    options.write_text(json.dumps({"truncate_dim": 16}))
    with start(tmp_path) as llm:
        assert llm.embed(PROMPTS[0])[0].embedding == whole[:16]
    options.write_text(json.dumps({"truncate_dim": 0}))
    with pytest.raises(ModelInvalidError, match="truncate_dim is 0"):
        start(tmp_path)


def test_rounded_weights_embed_nearly_the_same(tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert", hidden_size=64, intermediate_size=128)
    write_modules(tmp_path, MEAN, "Normalize")
    with start(tmp_path) as exact, start(tmp_path, quantization="int8") as rounded:
        pairs = zip(exact.embed(PROMPTS), rounded.embed(PROMPTS), strict=True)
        for one, other in pairs:
            cosine = torch.dot(torch.tensor(one.embedding), torch.tensor(other.embedding))
            assert 0.99 < cosine < 1.0 - 1e-7


def test_an_encoder_does_not_generate(tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert")
    write_modules(tmp_path, MEAN)
    with start(tmp_path) as llm:
        with pytest.raises(InvalidParameterError, match="no head to generate with"):
            llm.generate([[5, 6]])
        with pytest.raises(ModelUnsupportedError, match="does not score pairs"):
            llm.score("a", "b")
        assert llm.embed([[5, 6]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_decoder": True}, "is_decoder is True"),
        ({"is_causal": True}, "is_causal is True"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"conv_kernel_size": 9}, "conv_kernel_size"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
    ],
)
def test_what_would_embed_wrongly_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    make_encoder(tmp_path, "bert")
    write_modules(tmp_path, MEAN)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelUnsupportedError, match=words):
        start(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pad_token_id": None}, "pad_token_id is None"),
        ({"pad_token_id": 127}, "max_position_embeddings leaves no position"),
        ({"num_attention_heads": 5}, "hidden_size is 48"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    make_encoder(tmp_path, "roberta")
    write_modules(tmp_path, MEAN)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelInvalidError, match=words):
        start(tmp_path)


def test_an_encoder_that_does_not_say_how_it_embeds_is_refused(tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert", BASE)
    with pytest.raises(ModelUnsupportedError, match=r"no modules\.json"):
        start(tmp_path)
    write_modules(tmp_path, {"pooling_mode_geometric_tokens": True})
    with pytest.raises(ModelUnsupportedError, match="geometric_tokens"):
        start(tmp_path)
    (tmp_path / "1_Pooling/config.json").unlink()
    with pytest.raises(ModelInvalidError, match=r"holds no 1_Pooling/config\.json"):
        start(tmp_path)
