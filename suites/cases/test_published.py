"""schemathesis against the documents that OpenAI and Anthropic publish: no 5xx, errors in the owner's form,
and each answer, whole or streamed, as the owner's document has it.

Most of what is drawn asks for something that is not there (images, audio, another model): a member that is
refused by its name is left out, and the rest is asked again, so that most of it is answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from suites.cases import published
from suites.cases.drawn import shorten
from suites.cases.server import ENCODER, MODEL, encoder_url, url

EXAMPLES = 40
MOST_TRIES = 40
# Whose events the document does not name beside the operation.
STREAMED = {"createCompletion": "CreateCompletionResponse", "messages_post": "MessageStreamEvent"}
# What a request must have, where what was drawn is refused.
PLAIN: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is Octavo?"}],
    "input": "What is Octavo?",
    "prompt": "What is Octavo?",
    "max_tokens": 8,
}


def schema_of(document: published.Document, base_url: str) -> Any:
    schema = schemathesis.openapi.from_dict({**document, "servers": [{"url": base_url}]})
    schema.config.update(base_url=base_url)
    return schema


OPENAI = published.openai()
ANTHROPIC = published.anthropic()
of_openai = schema_of(OPENAI, url())
of_embeddings = schema_of(OPENAI, encoder_url()).include(path="/embeddings")
of_anthropic = schema_of(ANTHROPIC, url().removesuffix("/v1"))


@cache
def validator(owner: str, name: str) -> Draft202012Validator:
    """Of a schema of the document."""
    document = {"openai": OPENAI, "anthropic": ANTHROPIC}[owner]
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **document})


def check(case: Any, model: str, owner: str, is_error: Callable[[Any], bool]) -> None:
    body = case.body if isinstance(case.body, dict) else {}
    shorten(body)
    if "model" in body:
        body["model"] = model
    if "model" in (case.path_parameters or {}):
        case.path_parameters["model"] = model
    settle(body)
    for _ in range(MOST_TRIES):
        answer = case.call(timeout=120)
        assert answer.status_code < 500, answer.text
        if answer.status_code == 200:
            check_answer(answer, case.operation.definition.raw, owner)
            return
        error = answer.json()
        assert is_error(error), error
        if not leave_out(body, error["error"].get("param")):
            return


def settle(body: dict[str, Any]) -> None:
    """Where OpenAI's answers are not as its document has them: vectors in base64, and the first token of a
    prompt that is echoed, which has no log-probability."""
    if body.get("encoding_format") == "base64":
        body["encoding_format"] = "float"
    if body.get("echo"):
        body.pop("logprobs", None)


def leave_out(body: dict[str, Any], param: str | None) -> bool:
    """What is refused; False where there is nothing to leave out."""
    name = re.split(r"[.[]", param or "")[0]
    if name not in body or (name in PLAIN and body[name] == PLAIN[name]):
        return False
    del body[name]
    if name in PLAIN:
        body[name] = PLAIN[name]
    return True


def check_answer(answer: Any, operation: dict[str, Any], owner: str) -> None:
    kind = answer.headers["content-type"][0].partition(";")[0]
    content = operation["responses"]["200"]["content"]
    if kind == "text/event-stream":
        name = STREAMED.get(operation["operationId"]) or name_of(content[kind])
        for event in events(answer.text):
            assert_valid(owner, name, with_reason(event) if name in STREAMED.values() else event)
    else:
        assert kind == "application/json"
        assert_valid(owner, name_of(content[kind]), answer.json())


def with_reason(event: Any) -> Any:
    """OpenAI's document has one form for completions and their chunks, and no reason before the end is in
    neither."""
    for choice in event.get("choices", ()):
        if choice["finish_reason"] is None:
            choice["finish_reason"] = "stop"
    return event


def name_of(content: dict[str, Any]) -> str:
    reference: str = content["schema"]["$ref"]
    return reference.rpartition("/")[2]


def assert_valid(owner: str, name: str, document: Any) -> None:
    faults = [told(fault) for fault in validator(owner, name).iter_errors(document)]
    assert not faults, (name, faults, document)


def told(fault: ValidationError) -> str:
    """Where it is; of a choice the fault of the member that comes closest."""
    while fault.context:
        fault = max(
            fault.context, key=lambda one: (len(one.absolute_path), one.validator != "const")
        )
    return f"{'.'.join(map(str, fault.absolute_path))}: {fault.message[:300]}"


def events(text: str) -> list[Any]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def is_error_of_openai(document: Any) -> bool:
    validator("openai", "ErrorResponse").validate(document)
    return bool(document["error"]["message"])


def is_error_of_anthropic(document: Any) -> bool:
    validator("anthropic", "ErrorResponse").validate(document)
    return bool(document["error"]["message"])


drawn = settings(
    max_examples=EXAMPLES,
    phases=(Phase.generate, Phase.shrink),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@of_openai.exclude(path="/embeddings").parametrize()
@drawn
def test_openais_document(case: Any) -> None:
    check(case, MODEL, "openai", is_error_of_openai)


@of_embeddings.parametrize()
@drawn
def test_openais_document_of_embeddings(case: Any) -> None:
    check(case, ENCODER, "openai", is_error_of_openai)


@of_anthropic.parametrize()
@drawn
def test_anthropics_document(case: Any) -> None:
    check(case, MODEL, "anthropic", is_error_of_anthropic)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"messages": PLAIN["messages"]}),
        ("/chat/completions", {"messages": PLAIN["messages"], "logprobs": True, "top_logprobs": 2}),
        ("/completions", {"prompt": "a"}),
        ("/responses", {"input": "a"}),
    ],
    ids=str,
)
def test_an_answer_is_as_the_document_has_it(path: str, body: dict[str, Any], stream: bool) -> None:
    """Of what is asked for every day, in case that it is not drawn."""
    case = of_openai[path]["POST"].Case(
        body={"model": MODEL, "stream": stream, **body}, media_type="application/json"
    )
    check(case, MODEL, "openai", is_error_of_openai)
