"""`/v1/embeddings`, `/v1/score`, `/v1/rerank`: what `LLM` gives, in OpenAI's, vLLM's and Cohere's forms."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo import LLM
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.embeddings import EmbeddingRequest, _shown, shortened
from tests.support.runtime.encoders import BASE, SCORE, make_encoder, write_modules
from tests.support.runtime.server_process import ServerProcess, eventually

TEXTS = ["a man is eating food", "the girl carries a baby", "what", "pods run on nodes"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    make_encoder(folder, "bert", BASE)
    write_modules(folder, {"pooling_mode_mean_tokens": True})
    prompts = {"query": "the girl ", "document": ""}
    options = {"prompts": prompts, "truncate_dim": 40}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(options))
    return folder


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cross")
    make_encoder(folder, "bert", SCORE)
    return folder


@pytest.fixture(scope="module")
def embedder(encoder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--device", "cpu", model=str(encoder)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def scorer(cross_encoder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--device", "cpu", model=str(cross_encoder)) as server:
        yield server.wait_ready()


def ask(server: ServerProcess, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json={"model": "demo", **body}, timeout=60)


def vectors(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    return np.array([one["embedding"] for one in data])


def test_an_encoder_embeds_as_the_library_does(embedder: ServerProcess, encoder: Path) -> None:
    found = vectors(ask(embedder, "/v1/embeddings", input=TEXTS))
    with LLM(str(encoder), device="cpu") as llm:
        expected = np.array([output.embedding for output in llm.embed(TEXTS)])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["embedder", "scorer"])
def test_routes_that_generate_answer_400_and_the_server_lives(
    name: str, request: pytest.FixtureRequest
) -> None:
    server: ServerProcess = request.getfixturevalue(name)
    said = [{"role": "user", "content": "a man"}]
    for stream in (False, True) * 2:
        for route, asked in (
            ("completions", {"prompt": "a man"}),
            ("chat/completions", {"messages": said}),
            ("responses", {"input": "a man"}),
            ("messages", {"messages": said, "max_tokens": 4}),
        ):
            answer = ask(server, f"/v1/{route}", stream=stream, **asked)
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == "model"
            assert "no head to generate with" in answer.json()["error"]["message"]
    eventually(lambda: server.probe("readyz").status_code == 200)


def test_a_prompt_of_the_model_s_stands_before_texts(embedder: ServerProcess) -> None:
    expected = vectors(ask(embedder, "/v1/embeddings", input=["the girl eats", "eats"]))
    by_name = ask(embedder, "/v1/embeddings", input="eats", prompt_name="query")
    bare = ask(embedder, "/v1/embeddings", input="eats", prompt_name="document")
    found = np.concatenate([vectors(by_name), vectors(bare)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_forms_of_the_input_and_of_the_answer_say_the_same(embedder: ServerProcess) -> None:
    with openai.OpenAI(base_url=f"{embedder.url}/v1", api_key="x", max_retries=0) as client:
        # The client asks for base64 by default and decodes it.
        listed = client.embeddings.create(model="demo", input=TEXTS)
        single = client.embeddings.create(model="demo", input=TEXTS[0], encoding_format="float")
    np.testing.assert_allclose(
        listed.data[0].embedding, single.data[0].embedding, rtol=1e-5, atol=1e-6
    )
    tokens = ask(embedder, "/tokenize", prompt=TEXTS[0]).json()["tokens"]
    for given_ids in (tokens, [tokens]):
        by_ids = vectors(ask(embedder, "/v1/embeddings", input=given_ids))
        np.testing.assert_allclose(by_ids[0], single.data[0].embedding, rtol=1e-6)
    assert single.usage.prompt_tokens == single.usage.total_tokens == len(tokens)
    (raw,) = ask(embedder, "/v1/embeddings", input=TEXTS[0], encoding_format="base64").json()[
        "data"
    ]
    decoded = np.frombuffer(base64.b64decode(raw["embedding"]), dtype="<f4")
    np.testing.assert_allclose(decoded, single.data[0].embedding, rtol=1e-6)


KINDS: list[tuple[dict[str, str], str]] = [
    ({}, "<f4"),
    ({"embed_dtype": "float32", "endianness": "native"}, "<f4"),
    ({"embed_dtype": "float16", "endianness": "little"}, "<f2"),
    ({"embed_dtype": "float16", "endianness": "big"}, ">f2"),
    ({"embed_dtype": "bfloat16"}, "<u2"),
    ({"embed_dtype": "bfloat16", "endianness": "big"}, ">u2"),
]


@pytest.mark.parametrize(("fields", "kind"), KINDS)
@given(row=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=5))
def test_base64_is_of_the_type_and_order_that_was_asked_for(
    fields: dict[str, str], kind: str, row: list[float]
) -> None:
    request = EmbeddingRequest.parse({"model": "m", "encoding_format": "base64", **fields})
    shown = _shown(row, request, None)
    assert isinstance(shown, str)
    numbers = np.frombuffer(base64.b64decode(shown), dtype=kind)
    expected = torch.tensor(row)
    if fields.get("embed_dtype") == "bfloat16":
        found = torch.from_numpy(numbers.astype(np.uint16)).view(torch.bfloat16)
        assert torch.equal(found, expected.bfloat16())
    else:
        np.testing.assert_array_equal(numbers, expected.numpy().astype(kind))


def test_a_chat_is_embedded_as_its_template_writes_it(http: httpx.Client) -> None:
    chat = [{"role": "user", "content": "What is Octavo?"}]

    def vector(**body: Any) -> Any:
        return vectors(http.post("/v1/embeddings", json={"model": "demo", **body}))

    for more in ({}, {"add_generation_prompt": True}):
        ids = {"messages": chat, "add_generation_prompt": False, **more}
        tokens = http.post("/tokenize", json={"model": "demo", **ids}).json()["tokens"]
        found = vector(messages=chat, priority=1, cache_salt="mine", **more)
        np.testing.assert_allclose(found, vector(input=tokens), rtol=1e-4, atol=1e-5)
    cut = vector(messages=chat, truncate_prompt_tokens=3, add_generation_prompt=True)
    np.testing.assert_allclose(cut, vector(input=tokens[:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "a", "messages": [{"role": "user", "content": "a"}]}, "input"),
        ({"input": "a", "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "messages[0].role"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "a"}], "prompt_name": "p"}, "prompt_name"),
        ({"input": "a", "embed_dtype": "fp8_e4m3"}, "embed_dtype"),
        ({"input": "a", "use_activation": False}, "use_activation"),
        ({}, "input"),
    ],
)
def test_a_wrong_field_of_embeddings_is_named(
    http: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    answer = http.post("/v1/embeddings", json={"model": "demo", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_more_texts_than_run_at_once_come_in_order(embedder: ServerProcess) -> None:
    alone = vectors(ask(embedder, "/v1/embeddings", input=TEXTS))
    many = vectors(ask(embedder, "/v1/embeddings", input=TEXTS * 50))
    np.testing.assert_allclose(many, np.tile(alone, (50, 1)), rtol=1e-4, atol=1e-5)
    idle = ("octavo_requests_running", "octavo_requests_waiting")
    eventually(lambda: not any(embedder.metrics()[name] for name in idle))


def test_texts_may_be_cut_to_so_many_tokens(embedder: ServerProcess, scorer: ServerProcess) -> None:
    """As transformers truncates: the tokens at both ends stay."""
    long = " ".join(TEXTS * 40)
    begin, *middle, end = ask(embedder, "/tokenize", prompt=TEXTS[0]).json()["tokens"]
    wanted = {None: [begin, *middle[:3], end], "left": [begin, *middle[-3:], end]}
    for side, token_ids in wanted.items():
        more = {} if side is None else {"truncation_side": side}
        body = {"input": TEXTS[0], "truncate_prompt_tokens": 5, "request_id": "mine", **more}
        answer = ask(embedder, "/v1/embeddings", **body)
        by_ids = vectors(ask(embedder, "/v1/embeddings", input=token_ids))
        np.testing.assert_allclose(vectors(answer), by_ids, rtol=1e-6)
        assert answer.json()["usage"]["prompt_tokens"] == 5
    assert ask(embedder, "/v1/embeddings", input=long).status_code == 400
    most = httpx.get(f"{embedder.url}/v1/models", timeout=60).json()["data"][0]["max_model_len"]
    cut = {"truncate_prompt_tokens": -1}
    fitting = ask(embedder, "/v1/embeddings", input=long, **cut).json()
    assert fitting["usage"]["prompt_tokens"] == most
    ranked = ask(scorer, "/v1/rerank", query=TEXTS[0], documents=[long, TEXTS[1]], **cut)
    assert ranked.status_code == 200, ranked.text
    scored = ask(scorer, "/v1/score", text_1=TEXTS[0], text_2=[long, TEXTS[1]], **cut).json()
    by_index = {one["index"]: one["relevance_score"] for one in ranked.json()["results"]}
    assert by_index == pytest.approx({one["index"]: one["score"] for one in scored["data"]})
    for number, word in (
        (most + 1, "the model holds"),
        (2, "no room"),
        (-2, "greater than"),
        (0, "or -1"),
    ):
        refused = ask(embedder, "/v1/embeddings", input="a", truncate_prompt_tokens=number)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "truncate_prompt_tokens"
        assert word in refused.json()["error"]["message"]


def test_dimensions_are_the_first_ones(embedder: ServerProcess) -> None:
    whole = vectors(ask(embedder, "/v1/embeddings", input=TEXTS, dimensions=48))
    usual = vectors(ask(embedder, "/v1/embeddings", input=TEXTS))
    np.testing.assert_allclose(usual, whole[:, :40], rtol=1e-5, atol=1e-6)  # as the folder says
    short = vectors(ask(embedder, "/v1/embeddings", input=TEXTS, dimensions=8))
    expected = whole[:, :8]
    if abs(np.linalg.norm(whole[0]) - 1) < 1e-3:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, rtol=1e-5, atol=1e-6)
    answer = ask(embedder, "/v1/embeddings", input="a", dimensions=100_000)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "dimensions"


@given(
    row=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=30).filter(any),
    data=st.data(),
)
def test_what_had_length_one_has_it_again(row: list[float], data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, len(row)))
    length = math.hypot(*row)
    unit = [number / length for number in row]
    cut = shortened(unit, dimensions)
    assert len(cut) == dimensions
    assert math.isclose(math.hypot(*cut), 1.0, rel_tol=1e-6) or not any(unit[:dimensions])
    with pytest.raises(ApiError):
        shortened(unit, len(row) + 1)


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({}, "input", "Missing"),
        ({"input": []}, "input", "it is []"),
        ({"input": ""}, "input", "empty text"),
        ({"input": ["a", 1]}, "input", "mixes"),
        ({"input": ["a", "a man " * 4000]}, "input", "maximum context length"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"input": [10**6]}, "input", "token id"),
        ({"input": "a", "dimensions": 0}, "dimensions", "greater"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "'base64'"),
        ({"input": "a", "prompt_name": "query"}, "prompt_name", "has none"),
        ({"input": "a", "use_activation": True}, "use_activation", "Leave it out"),
        ({"input": "a", "use_activations": True}, "use_activations", "Unrecognized"),
    ],
)
def test_a_wrong_field_is_400_and_named(
    server: ServerProcess, body: dict[str, Any], param: str, word: str
) -> None:
    if body.get("input") == "":
        body = {**body, "add_special_tokens": False}
    answer = ask(server, "/v1/embeddings", **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert word in answer.json()["error"]["message"]


def test_a_decoder_embeds_beside_requests_that_generate(
    server: ServerProcess, client: openai.OpenAI
) -> None:
    stream = client.completions.create(
        model="demo",
        prompt="a",
        max_tokens=200,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    found = client.embeddings.create(model="demo", input=TEXTS).data
    usage = list(stream)[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 200
    assert all(math.isclose(math.hypot(*one.embedding), 1, rel_tol=1e-3) for one in found)
    with LLM("builtin://demo", kv_cache_memory="64Mi") as llm:
        expected = [output.embedding for output in llm.embed(TEXTS)]
    for one, row in zip(found, expected, strict=True):
        assert float(np.dot(one.embedding, row)) > 0.999


def test_scores_are_those_of_the_library(scorer: ServerProcess, cross_encoder: Path) -> None:
    answer = ask(scorer, "/v1/score", text_1="what", text_2=TEXTS)
    assert answer.status_code == 200, answer.text
    found = [one["score"] for one in answer.json()["data"]]
    with LLM(str(cross_encoder), device="cpu") as llm:
        expected = [output.outputs.score for output in llm.score("what", TEXTS)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    paired = ask(scorer, "/score", text_1=["what"] * 4, text_2=TEXTS).json()["data"]
    np.testing.assert_allclose([one["score"] for one in paired], expected, rtol=1e-5)


def test_documents_come_back_by_their_score(scorer: ServerProcess) -> None:
    scores = [
        one["score"] for one in ask(scorer, "/v1/score", text_1="what", text_2=TEXTS).json()["data"]
    ]
    order = sorted(range(len(TEXTS)), key=lambda index: -scores[index])
    mixed = [TEXTS[0], {"text": TEXTS[1]}, *TEXTS[2:]]
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        results = ask(scorer, path, query="what", documents=mixed).json()["results"]
        assert [one["index"] for one in results] == order
        assert [one["document"]["text"] for one in results] == [TEXTS[index] for index in order]
        np.testing.assert_allclose(
            [one["relevance_score"] for one in results], sorted(scores, reverse=True), rtol=1e-5
        )
    best = ask(
        scorer, "/v1/rerank", query="what", documents=TEXTS, top_n=2, return_documents=False
    ).json()["results"]
    assert [(one["index"], "document" in one) for one in best] == [
        (index, False) for index in order[:2]
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/score", {"text_1": "a", "text_2": "b"}),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ],
)
def test_what_does_not_score_says_so(
    server: ServerProcess, embedder: ServerProcess, path: str, body: dict[str, Any]
) -> None:
    for process in (server, embedder):
        answer = ask(process, path, **body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "model"
        assert "ForSequenceClassification" in answer.json()["error"]["message"]


def test_what_scores_does_not_embed(scorer: ServerProcess) -> None:
    answer = ask(scorer, "/v1/embeddings", input="a")
    assert answer.status_code == 400
    assert "gives no embeddings" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}, "text_1"),
        ("/v1/score", {"text_1": "a", "text_2": []}, "text_2"),
        ("/v1/score", {"text_1": "a", "text_2": "the girl " * 4000}, "text_2"),
        ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "rank_fields": ["x"]}, "rank_fields"),
    ],
)
def test_wrong_pairs_are_400_and_named(
    scorer: ServerProcess, path: str, body: dict[str, Any], param: str
) -> None:
    answer = ask(scorer, path, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
