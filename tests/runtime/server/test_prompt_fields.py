"""What a request says of how its prompt is made: cut, filled in, gone on with, with documents."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.fill_in_middle import find_middle_tokens
from octavo.server.openai.prompts import Prompt, PromptBuilder
from octavo.server.openai.protocol import CompletionRequest
from octavo.tokenizer import Tokenizer as OurTokenizer
from octavo.tokenizer import load_tokenizer
from tests.support.runtime.tokenizer_kinds import KINDS

USER = {"role": "user", "content": "What is Octavo?"}
FORMS = [
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
]


def tokens(http: httpx.Client, **fields: Any) -> list[int]:
    response = http.post("/tokenize", json={"model": "demo", **fields})
    assert response.status_code == 200, response.text
    found: list[int] = response.json()["tokens"]
    return found


def test_the_last_tokens_of_a_prompt_are_kept(http: httpx.Client) -> None:
    for fields in ({"prompt": "one two three four five"}, {"messages": [USER]}):
        whole = tokens(http, **fields)
        assert tokens(http, **fields, truncate_prompt_tokens=3) == whole[-3:]
        assert tokens(http, **fields, truncate_prompt_tokens=len(whole) + 1) == whole
        assert tokens(http, **fields, truncate_prompt_tokens=-1) == whole
    long = [5, 6] * 1500
    body = {"model": "demo", "prompt": long, "max_tokens": 8, "truncate_prompt_tokens": -1}
    usage = http.post("/v1/completions", json=body).json()["usage"]
    assert usage["prompt_tokens"] == 2040


def test_what_is_echoed_is_what_was_kept(http: httpx.Client) -> None:
    body = {"model": "demo", "prompt": "one two three", "max_tokens": 0, "echo": True}
    assert http.post("/v1/completions", json=body).json()["choices"][0]["text"] == "one two three"
    answer = http.post("/v1/completions", json={**body, "truncate_prompt_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens"] == 1
    assert "one two three".endswith(answer["choices"][0]["text"])


def test_a_chat_goes_on_with_its_last_message(http: httpx.Client) -> None:
    begun = [USER, {"role": "assistant", "content": "Octavo is"}]
    plain = tokens(http, messages=[USER])
    without = tokens(http, messages=[USER], add_generation_prompt=False)
    assert plain[: len(without)] == without
    assert len(plain) > len(without)
    going_on = tokens(http, messages=begun, continue_final_message=True)
    assert going_on[: len(plain)] == plain
    text = http.post("/detokenize", json={"model": "demo", "tokens": going_on}).json()["prompt"]
    assert text.endswith("Octavo is")
    body = {"model": "demo", "messages": begun, "temperature": 0, "max_tokens": 30}
    body |= {"continue_final_message": True, "add_generation_prompt": False}
    answer = http.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"].startswith(" ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"continue_final_message": True}, "continue_final_message"),
        ({"documents": [{"text": "d"}]}, "documents"),
        (
            {"chat_template_kwargs": {"documents": [{"text": "d"}]}},
            "chat_template_kwargs.documents",
        ),
        (
            {"documents": [{"text": "d"}], "chat_template_kwargs": {"documents": []}},
            "documents",
        ),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"prediction": {"type": "content"}}, "prediction.content"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"echo": True}, "echo"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(
    http: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    body = {"model": "demo", "messages": [USER], **fields}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_prediction_changes_nothing(http: httpx.Client) -> None:
    body = {"model": "demo", "messages": [USER], "temperature": 0, "max_tokens": 8}
    prediction = {"type": "content", "content": [{"type": "text", "text": "Octavo"}]}
    plain, predicted = (
        http.post("/v1/chat/completions", json={**body, **more}).json()
        for more in ({}, {"prediction": prediction})
    )
    assert predicted["choices"] == plain["choices"]


def coder(names: tuple[str, ...]) -> OurTokenizer:
    """A token for each letter, and a begin of text."""
    letters = {letter: number for number, letter in enumerate("abcdefgh ")}
    backend = Tokenizer(models.BPE(letters, []))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", *names)])
    start = backend.token_to_id("<s>")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", start)]
    )
    return OurTokenizer(backend, {}, None)


@pytest.mark.parametrize("names", FORMS, ids=lambda names: names[0])
def test_a_text_is_filled_in_in_the_models_own_form(names: tuple[str, ...]) -> None:
    tokenizer = coder(names)
    builder = PromptBuilder(tokenizer, max_model_len=64, vocab_size=64, max_prompts=2)

    def prompts(prompt: Any, **fields: Any) -> list[list[int]]:
        document = {"model": "m", "prompt": prompt, "suffix": "cd", **fields}
        request = CompletionRequest.parse(document)
        return [one.token_ids for one in asyncio.run(builder.completions(request))]

    before, behind, middle = (tokenizer.backend.token_to_id(name) for name in names)
    start = tokenizer.backend.token_to_id("<s>")
    expected = [start, before, 0, 1, behind, 2, 3, middle]
    assert prompts("ab") == [expected]
    assert prompts(["ab", "e"]) == [expected, [start, before, 4, behind, 2, 3, middle]]
    assert prompts([0, 1]) == [expected]
    assert prompts("ab", add_special_tokens=False) == [expected[1:]]


def test_a_suffix_is_no_begin_of_a_word_to_code_llama() -> None:
    """Its tokenizer puts a space before every text."""
    ids = {"▁<PRE>": 1, "▁<SUF>": 2, "▁<MID>": 3, "▁<EOT>": 4}
    found = find_middle_tokens(ids.get)
    assert found is not None
    assert found.ends == (4,)
    assert found.encode_suffix("ab", lambda text: [ord(one) for one in f" {text}"]) == [97, 98]


def test_a_model_that_knows_no_filling_in_refuses() -> None:
    builder = PromptBuilder(coder(()), max_model_len=64, vocab_size=64, max_prompts=1)
    request = CompletionRequest.parse({"model": "m", "prompt": "a", "suffix": "b"})
    with pytest.raises(ApiError) as refusal:
        asyncio.run(builder.completions(request))
    assert refusal.value.detail.param == "suffix"


@pytest.fixture
def code_llama(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(KINDS["llama"]().to_str())
    config = {"tokenizer_class": "CodeLlamaTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path


def filled(folder: Path, **fields: Any) -> Prompt:
    tokenizer = load_tokenizer(folder)
    builder = PromptBuilder(tokenizer, max_model_len=64, vocab_size=10_000, max_prompts=1)
    request = CompletionRequest.parse({"model": "m", **fields})
    (found,) = asyncio.run(builder.completions(request))
    return found


@pytest.mark.parametrize(
    "text", [" hello <FILL_ME> world", "  a\n<FILL_ME> b", "<FILL_ME> b", "hello<FILL_ME>", "hello"]
)
def test_a_mark_in_a_text_is_the_middle_as_transformers_reads_it(
    code_llama: Path, text: str
) -> None:
    theirs = AutoTokenizer.from_pretrained(code_llama)(text)["input_ids"]
    assert filled(code_llama, prompt=text).token_ids == theirs
    before, _, behind = text.partition("<FILL_ME>")
    if behind:
        assert filled(code_llama, prompt=before, suffix=behind).token_ids == theirs


def test_behind_the_middle_no_space_is_put(code_llama: Path) -> None:
    """As the models were trained; the tokenizer of transformers 5 puts one there."""
    found = filled(code_llama, prompt="a<FILL_ME>b")
    assert found == filled(code_llama, prompt="a", suffix="b")
    assert found.is_filled_in
    text = load_tokenizer(code_llama).decode(found.token_ids, skip_special_tokens=False)
    assert text.endswith(("<SUF>b<MID>", "<SUF>b <MID>"))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"prompt": "a<FILL_ME>b<FILL_ME>"}, "2 times"),
        ({"prompt": "<FILL_ME>", "suffix": "b"}, "beside"),
    ],
)
def test_more_than_one_middle_is_refused(
    code_llama: Path, fields: dict[str, Any], word: str
) -> None:
    with pytest.raises(ApiError, match=word) as refused:
        filled(code_llama, **fields)
    assert refused.value.detail.param == "prompt"


def test_without_such_a_token_the_mark_is_text(http: httpx.Client) -> None:
    found = tokens(http, prompt="a<FILL_ME>b")
    told = http.post("/detokenize", json={"model": "demo", "tokens": found}).json()["prompt"]
    assert told == "a<FILL_ME>b"
