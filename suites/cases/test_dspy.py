"""dspy: predictions in its own text form, in JSON, with tools, and embeddings."""

from __future__ import annotations

import dspy
import pytest

from suites.cases.server import API_KEY, ENCODER, MODEL, encoder_url, url


def lm() -> dspy.LM:
    return dspy.LM(
        f"openai/{MODEL}",
        api_base=url(),
        api_key=API_KEY,
        temperature=0,
        max_tokens=200,
        cache=False,
        num_retries=0,
    )


class Extract(dspy.Signature):
    """Extract the person."""

    text: str = dspy.InputField()
    name: str = dspy.OutputField()
    age: int = dspy.OutputField()


def test_the_model_alone() -> None:
    assert lm()("What is 17 plus 25?") == ["17 plus 25 is 42."]


@pytest.mark.parametrize("adapter", ["JSONAdapter"])
def test_a_prediction(adapter: str) -> None:
    with dspy.context(lm=lm(), adapter=getattr(dspy, adapter)()):
        found = dspy.Predict(Extract)(text="Jason is 25 years old.")
    assert isinstance(found.name, str)
    assert isinstance(found.age, int)


def test_an_embedder() -> None:
    embed = dspy.Embedder(
        f"openai/{ENCODER}", api_base=encoder_url(), api_key=API_KEY, caching=False
    )
    assert embed(["A man is eating food."]).shape == (1, 384)
