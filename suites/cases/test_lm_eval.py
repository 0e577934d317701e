"""lm-eval: log-likelihoods and texts through the server, and through its own transformers backend."""

from __future__ import annotations

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from suites.cases.server import MODEL, model_folder, url

PAIRS = [
    ("17 plus 25 is", " 42."),
    ("17 plus 25 is", " 43."),
    ("What is Octavo?", " A server of language models."),
    ("Kubernetes runs", " containers, and Octavo runs models."),
    ("Ärger mit 你好", " und 🎉"),
    ("one two three " * 40, " four"),
    ("", "Octavo adds numbers."),
]
DOCUMENTS = ["Octavo serves models on Kubernetes.", "a b c d e f g " * 30, "17 plus 25 is 42."]
UNTIL = {"until": ["."], "max_gen_toks": 12, "temperature": 0.0}


def instances(kind: str, arguments: list[tuple[object, ...]]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=index)
        for index, one in enumerate(arguments)
    ]


@pytest.fixture(scope="module")
def reference() -> HFLM:
    return HFLM(pretrained=model_folder(), dtype="float32", device="cpu", batch_size=1)


@pytest.fixture
def served() -> LocalCompletionsAPI:
    return LocalCompletionsAPI(
        base_url=f"{url()}/completions",
        model=MODEL,
        tokenizer_backend="huggingface",
        tokenizer=model_folder(),
        batch_size=4,
        max_retries=1,
    )


def test_log_likelihoods(reference: HFLM, served: LocalCompletionsAPI) -> None:
    expected = reference.loglikelihood(instances("loglikelihood", list(PAIRS)))
    found = served.loglikelihood(instances("loglikelihood", list(PAIRS)))
    assert [value for value, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_rolling_log_likelihoods(reference: HFLM, served: LocalCompletionsAPI) -> None:
    asked = instances("loglikelihood_rolling", [(text,) for text in DOCUMENTS])
    expected = reference.loglikelihood_rolling(asked)
    assert served.loglikelihood_rolling(asked) == pytest.approx(expected, abs=1e-3)


def test_texts(reference: HFLM, served: LocalCompletionsAPI) -> None:
    asked = instances("generate_until", [(context, dict(UNTIL)) for context, _ in PAIRS[:3]])
    assert served.generate_until(asked) == reference.generate_until(asked)


def test_chats() -> None:
    served = LocalChatCompletion(
        base_url=f"{url()}/chat/completions", model=MODEL, batch_size=1, max_retries=1
    )
    prompt = served.apply_chat_template([{"role": "user", "content": "What is 17 plus 25?"}])
    asked = instances("generate_until", [(prompt, {"until": ["\n"], "max_gen_toks": 40})])
    assert served.generate_until(asked) == ["17 plus 25 is 42."]
