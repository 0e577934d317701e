"""`response_format` and `structured_outputs`, as the `openai` client sends them."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from octavo.server.openai.output_format import output_format
from octavo.server.openai.protocol import ChatCompletionRequest
from tests.support.runtime.server_process import ServerProcess

QUESTION: Any = [{"role": "user", "content": "What is Octavo?"}]


class Pod(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=12)
    phase: Literal["Running", "Pending"]
    restarts: int | None


class Pods(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pods: list[Pod] = Field(max_length=2)


def test_a_model_class_comes_back_as_its_instance(client: openai.OpenAI) -> None:
    for seed in range(4):
        answer = client.chat.completions.parse(
            model="demo",
            messages=QUESTION,
            response_format=Pods,
            temperature=1,
            seed=seed,
            max_tokens=400,
        )
        assert isinstance(answer.choices[0].message.parsed, Pods)


def test_a_stream_is_the_same_document(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "model": "demo",
        "messages": QUESTION,
        "temperature": 1,
        "seed": 7,
        "max_tokens": 400,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "pods", "strict": True, "schema": Pods.model_json_schema()},
        },
    }
    whole = client.chat.completions.create(**options).choices[0].message.content
    chunks = client.chat.completions.create(**options, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    Pods.model_validate_json(whole or "")


def test_json_object_is_an_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo",
        messages=QUESTION,
        response_format={"type": "json_object"},
        temperature=0,
        max_tokens=300,
    ).choices[0]
    assert (answer.message.content or "").lstrip().startswith("{")
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.message.content or ""), dict)


def test_completions_take_the_formats_too(client: openai.OpenAI) -> None:
    def texts(**outputs: Any) -> list[str]:
        body = {"structured_outputs": outputs}
        answer = client.completions.create(
            model="demo", prompt=["a", "b"], n=3, temperature=1, max_tokens=40, extra_body=body
        )
        return [choice.text for choice in answer.choices]

    assert set(texts(choice=["yes", "no"])) <= {"yes", "no"}
    assert all(re.fullmatch("[0-9]{2}-[a-z]{2}", text) for text in texts(regex="[0-9]{2}-[a-z]{2}"))
    assert set(texts(grammar='start: "x" "y"')) == {"xy"}


def test_a_structural_tag_is_text_and_calls(client: openai.OpenAI) -> None:
    tag = {
        "type": "sequence",
        "elements": [
            {"type": "tag", "begin": "(", "content": {"type": "any_text"}, "end": ")"},
            {"type": "json_schema", "json_schema": {"type": "integer", "maximum": 9, "minimum": 0}},
        ],
    }
    options: dict[str, Any] = {"model": "demo", "messages": QUESTION, "max_tokens": 200}
    options |= {"temperature": 1, "seed": 3, "logit_bias": {}}
    found = set()
    for body in (
        {"response_format": {"type": "structural_tag", "format": tag}},
        {"structured_outputs": {"structural_tag": json.dumps({"format": tag})}},
    ):
        whole = client.chat.completions.create(**options, extra_body=body).choices[0]
        chunks = client.chat.completions.create(**options, extra_body=body, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == whole.message.content
        assert text.startswith("(")
        if whole.finish_reason == "stop":
            assert re.fullmatch(r"\([^)]*\)[0-9]", text)
        found.add(text)
    assert len(found) == 1
    body = {"response_format": {"type": "structural_tag", "format": {"type": "any_txt"}}}
    with pytest.raises(openai.BadRequestError, match="any_txt") as caught:
        client.chat.completions.create(**options, extra_body=body)
    assert caught.value.param == "response_format"
    for contradiction, what_to_do in (
        ({"type": "text", "format": tag}, "the type is text. Leave one out"),
        ({"type": "structural_tag"}, "Give format, or structures and triggers"),
    ):
        with pytest.raises(openai.BadRequestError, match=what_to_do) as caught:
            client.chat.completions.create(**options, extra_body={"response_format": contradiction})
        assert caught.value.param == "response_format.format"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_schema_that_cannot_be_held_to_is_400_also_of_a_stream(
    http: httpx.Client, is_stream: bool
) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    body = {"model": "demo", "messages": QUESTION, "response_format": wanted, "stream": is_stream}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format"


@pytest.mark.parametrize("number", [-(2**63), 2**53 + 1, 10**30])
def test_a_number_that_cannot_be_held_to_is_400(http: httpx.Client, number: int) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": number}}}
    body = {"model": "demo", "messages": QUESTION, "response_format": wanted}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format"
    assert http.get("/health").status_code == 200


def test_hostile_grammars_leave_the_server_as_it_was(
    http: httpx.Client, server: ServerProcess
) -> None:
    """Endless, exponential and distinct ones, some of them abandoned: the same engine answers afterwards."""
    rules = ["start: r0", *(f"r{i}: r{i + 1} r{i + 1}" for i in range(60)), 'r60: "a"']
    hostile: list[dict[str, Any]] = [
        {"grammar": "\n".join(rules)},
        {"grammar": "start: start start | "},
        {"regex": r"\p{L}{1,390}" * 50},
        {"regex": "(.*a){25}"},
        {"regex": "[a-z]{1000000}"},
        {"json": {"$ref": "#"}},
        {"json": {"type": "array", "minItems": 10**9}},
        {"json": {"type": "string", "minLength": 10**18}},
        {"json": {"enum": [f"{number} of many" for number in range(3000)]}},
        *({"json": {"const": f"distinct {number}"}} for number in range(50)),
    ]
    for outputs in hostile:
        body = {
            "model": "demo",
            "prompt": "a",
            "max_tokens": 60,
            "temperature": 1,
            "structured_outputs": outputs,
        }
        response = http.post("/v1/completions", json=body)
        assert response.status_code in (200, 400), (outputs, response.text)
        with contextlib.suppress(httpx.TimeoutException):  # it hangs up
            http.post("/v1/completions", json=body, timeout=0.002)
    answer = http.post(
        "/v1/completions",
        json={
            "model": "demo",
            "prompt": "a",
            "max_tokens": 9,
            "structured_outputs": {"choice": ["well"]},
        },
    )
    assert answer.json()["choices"][0]["text"] == "well"
    metrics = server.metrics()
    held = ("octavo_requests_running", "octavo_requests_waiting", "octavo_kv_cache_usage_ratio")
    while any(metrics[name] for name in held):
        metrics = server.metrics()  # those that hung up are about to end


def test_text_asks_for_nothing() -> None:
    request = ChatCompletionRequest.parse(
        {"model": "m", "messages": [], "response_format": {"type": "text"}}
    )
    assert output_format(request.response_format, request.structured_outputs) is None
