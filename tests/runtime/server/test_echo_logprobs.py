"""Log-likelihoods over HTTP: echo with logprobs, as evaluation harnesses ask for them, and vLLM's
`prompt_logprobs`."""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import Any

import httpx
import openai
import pytest
import torch

from octavo.model_source import resolve
from octavo.tokenizer import load_tokenizer

TEXTS = ["What is Octavo?", "17 plus 25 is 42.", "Größe: naïve ☃ 🙂 text\n\twith  spaces", "x"]


@cache
def reference() -> Any:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(resolve("builtin://demo"), dtype=torch.float32)


def rows(token_ids: list[int]) -> torch.Tensor:
    """`[tokens - 1, vocab]`: of what follows each token but the last."""
    with torch.no_grad():
        logits = reference()(torch.tensor([token_ids])).logits[0, :-1]
    return torch.log_softmax(logits.float(), dim=-1)


def complete(http: httpx.Client, prompt: object, **fields: object) -> dict[str, Any]:
    body = {"model": "demo", "prompt": prompt, "temperature": 0, "ignore_eos": True, **fields}
    response = http.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("max_tokens", [0, 1, 3])
def test_echo_tells_the_log_likelihood_of_each_token(http: httpx.Client, max_tokens: int) -> None:
    """What `lm-eval`'s local-completions sends, and what it makes of the answer."""
    tokenizer = load_tokenizer(resolve("builtin://demo"))
    prompts = [tokenizer.encode(text) for text in TEXTS] + [[9, 9, 300, 4]]
    answer = complete(http, prompts, max_tokens=max_tokens, logprobs=1, seed=1234, echo=True)
    for prompt, choice in zip(prompts, answer["choices"], strict=True):
        told = choice["logprobs"]
        assert {len(values) for values in told.values()} == {len(prompt) + max_tokens}
        assert told["token_logprobs"][0] is None
        assert told["top_logprobs"][0] is None
        wanted = rows(prompt)
        own = wanted.gather(1, torch.tensor(prompt[1:])[:, None])[:, 0]
        got = told["token_logprobs"][1 : len(prompt)]
        assert got == pytest.approx(own.tolist(), abs=1e-3)
        is_greedy = [
            logprob == max(top.values())
            for logprob, top in zip(got, told["top_logprobs"][1 : len(prompt)], strict=True)
        ]
        assert is_greedy == (wanted.argmax(dim=-1) == torch.tensor(prompt[1:])).tolist()


def test_offsets_are_those_of_the_text(http: httpx.Client) -> None:
    for choice in complete(http, TEXTS, max_tokens=4, logprobs=0, echo=True)["choices"]:
        told = choice["logprobs"]
        assert choice["text"].startswith(TEXTS[choice["index"]])
        starts = [*told["text_offset"], len(choice["text"])]
        for token, start, end in zip(told["tokens"], starts, starts[1:], strict=False):
            if not token.startswith(("bytes:", "<|")):  # part of a character, or a special token
                assert choice["text"][start:end] == token


def test_a_stream_tells_the_same(client: openai.OpenAI) -> None:
    def ask(stream: bool) -> Any:
        return client.completions.create(
            model="demo",
            prompt=TEXTS[:2],
            n=2,
            seed=5,
            max_tokens=4,
            logprobs=2,
            echo=True,
            stream=stream,
        )

    chunks = list(ask(stream=True))
    for choice in ask(stream=False).choices:
        own = [c.choices[0] for c in chunks if c.choices[0].index == choice.index]
        assert "".join(part.text for part in own) == choice.text
        streamed = {
            name: [item for part in own if part.logprobs for item in getattr(part.logprobs, name)]
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        }
        assert streamed["tokens"] == choice.logprobs.tokens
        assert streamed["text_offset"] == choice.logprobs.text_offset
        # Their last bits depend on what else is in the batch.
        numbers = zip(streamed["token_logprobs"], choice.logprobs.token_logprobs, strict=True)
        for got, wanted in numbers:
            assert got == (None if wanted is None else pytest.approx(wanted, abs=1e-4))
        tops = zip(streamed["top_logprobs"], choice.logprobs.top_logprobs, strict=True)
        for got, wanted in tops:
            assert got == (None if wanted is None else pytest.approx(wanted, abs=1e-4))


def test_a_full_context_is_scored_without_a_token_of_output(http: httpx.Client) -> None:
    answer = complete(http, [[5, 7] * 1024], max_tokens=0, logprobs=0, echo=True)
    assert answer["usage"]["completion_tokens"] == 0
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == 2048


def test_prompt_logprobs_by_token_id(http: httpx.Client) -> None:
    prompt = [9, 300, 4]
    fields = {"prompt_logprobs": 2, "logprobs": 1, "max_tokens": 1}
    (choice,) = complete(http, prompt, **fields)["choices"]
    first, *told = choice["prompt_logprobs"]
    assert first is None
    for token_id, position, row in zip(prompt[1:], told, rows(prompt), strict=True):
        assert set(position) == {str(token_id), *map(str, row.topk(2).indices.tolist())}
        for name, entry in position.items():
            assert entry["logprob"] == pytest.approx(float(row[int(name)]), abs=1e-3)
            assert entry["rank"] == 1 + int((row > row[int(name)]).sum())
    assert len(choice["logprobs"]["tokens"]) == 1
    stream = {"model": "demo", "prompt": prompt, **fields, "stream": True}
    refused = http.post("/v1/completions", json=stream)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "prompt_logprobs"


CHAT: dict[str, Any] = {
    "model": "demo",
    "messages": [{"role": "user", "content": "What is Octavo?"}],
    "temperature": 0,
    "max_tokens": 5,
}


def test_a_chat_tells_the_same_of_its_prompt(http: httpx.Client) -> None:
    """As vLLM has it: once, beside the choices."""
    fields = {"prompt_logprobs": 2, "return_token_ids": True, "n": 2}
    answer = http.post("/v1/chat/completions", json={**CHAT, **fields}).json()
    prompt = answer["prompt_token_ids"]
    assert prompt == http.post("/tokenize", json=CHAT).json()["tokens"]
    first, *told = answer["prompt_logprobs"]
    assert first is None
    for token_id, position, row in zip(prompt[1:], told, rows(prompt), strict=True):
        assert set(position) == {str(token_id), *map(str, row.topk(2).indices.tolist())}
        for name, entry in position.items():
            assert entry["logprob"] == pytest.approx(float(row[int(name)]), abs=1e-3)
            assert entry["rank"] == 1 + int((row > row[int(name)]).sum())
    for choice in answer["choices"]:
        text = http.post("/detokenize", json={"model": "demo", "tokens": choice["token_ids"]})
        assert text.json()["prompt"] == choice["message"]["content"]
    plain = http.post("/v1/chat/completions", json=CHAT).json()
    assert not {"prompt_logprobs", "prompt_token_ids"} & plain.keys()
    assert "token_ids" not in plain["choices"][0]


@pytest.mark.parametrize("more", [{}, {"logprobs": True}, {"n": 2}], ids=str)
def test_a_chat_s_stream_tells_token_ids_with_their_text(
    http: httpx.Client, more: dict[str, Any]
) -> None:
    body = {**CHAT, **more, "return_token_ids": True}
    answer = http.post("/v1/chat/completions", json=body).json()
    lines = http.post("/v1/chat/completions", json={**body, "stream": True}).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    for choice in answer["choices"]:
        own = [chunk for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert own[0]["prompt_token_ids"] == answer["prompt_token_ids"]
        assert not any("prompt_token_ids" in chunk for chunk in own[1:])
        ids = [token_id for chunk in own for token_id in chunk["choices"][0]["token_ids"]]
        assert ids == choice["token_ids"]


def test_ids_are_echoed_with_the_special_tokens_among_them(http: httpx.Client) -> None:
    """As the same prompt is when it comes as text."""
    ids = http.post("/tokenize", json=CHAT).json()["tokens"]
    text = http.post("/detokenize", json={"model": "demo", "tokens": ids}).json()["prompt"]
    (choice,) = complete(http, ids, max_tokens=1, logprobs=0, echo=True)["choices"]
    assert choice["text"].startswith(text)
    told = choice["logprobs"]
    starts = told["text_offset"]
    shown = [choice["text"][a:b] for a, b in itertools.pairwise(starts)]
    assert shown == told["tokens"][: len(ids)]
    assert any(token.startswith("<|") for token in shown)


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_s_tokens_may_be_named_by_their_ids(http: httpx.Client, stream: bool) -> None:
    fields = {"return_token_ids": True, "logprobs": True, "top_logprobs": 2, "stream": stream}
    body = {**CHAT, **fields, "return_tokens_as_token_ids": True}
    lines = http.post("/v1/chat/completions", json=body).text.removeprefix("data: ")
    documents = [json.loads(line) for line in lines.split("\n\ndata: ") if line[:1] == "{"]
    choices = [document["choices"][0] for document in documents]
    ids = [token_id for choice in choices for token_id in choice["token_ids"]]
    told = [one for choice in choices for one in (choice["logprobs"] or {"content": []})["content"]]
    assert [one["token"] for one in told] == [f"token_id:{token_id}" for token_id in ids]
    for one in told:
        assert all(other["token"].startswith("token_id:") for other in one["top_logprobs"])


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_logprobs": 21},
        {"prompt_logprobs": 1, "stream": True},
        {"prompt_logprobs": 1, "use_beam_search": True},
    ],
    ids=str,
)
def test_what_a_chat_does_not_tell_is_refused(
    http: httpx.Client, fields: dict[str, object]
) -> None:
    response = http.post("/v1/chat/completions", json={**CHAT, **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt_logprobs"


def test_token_ids_are_told_where_they_are_asked_for(http: httpx.Client) -> None:
    prompt = [9, 300, 4]
    fields = {"return_token_ids": True, "return_tokens_as_token_ids": True}
    (choice,) = complete(http, prompt, max_tokens=3, logprobs=1, echo=True, **fields)["choices"]
    assert choice["prompt_token_ids"] == prompt
    assert len(choice["token_ids"]) == 3
    told = choice["logprobs"]
    names = [f"token_id:{token_id}" for token_id in prompt + choice["token_ids"]]
    assert told["tokens"] == names
    for name, top in zip(names[1:], told["top_logprobs"][1:], strict=True):
        assert name in top
        assert all(other.startswith("token_id:") for other in top)
    body = {"model": "demo", "prompt": prompt, "temperature": 0, "max_tokens": 3, "stream": True}
    lines = http.post("/v1/completions", json={**body, **fields, "ignore_eos": True}).text
    chunks = [json.loads(line[6:]) for line in lines.splitlines() if line.startswith("data: {")]
    own = [chunk["choices"][0] for chunk in chunks]
    assert own[0]["prompt_token_ids"] == prompt
    assert [one for part in own for one in part["token_ids"]] == choice["token_ids"]


def test_the_best_of_several_are_those_of_highest_probability(http: httpx.Client) -> None:
    def probability(choice: dict[str, Any]) -> float:
        told: list[float] = choice["logprobs"]["token_logprobs"]
        return sum(told) / len(told)

    fields: dict[str, object] = {"temperature": 1.5, "seed": 3, "max_tokens": 8, "logprobs": 0}
    all_of_them = complete(http, "What", n=6, **fields)["choices"]
    answer = complete(http, "What", n=2, best_of=6, **fields)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    wanted = sorted(all_of_them, key=probability, reverse=True)[:2]
    assert [choice["text"] for choice in answer["choices"]] == [one["text"] for one in wanted]
    assert answer["usage"]["completion_tokens"] == 48
    del fields["logprobs"]
    plain = complete(http, "What", n=2, best_of=6, **fields)["choices"]
    assert [choice["text"] for choice in plain] == [one["text"] for one in wanted]
    assert plain[0]["logprobs"] is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 129}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": [[5] * 2000] * 5, "n": 6, "logprobs": 20, "echo": True}, "logprobs"),
        ({"prompt": [[5] * 2000] * 5, "n": 6, "prompt_logprobs": 20}, "prompt_logprobs"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_not_told_is_refused_by_name(
    http: httpx.Client, fields: dict[str, object], param: str
) -> None:
    response = http.post("/v1/completions", json={"model": "demo", "prompt": "a", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
