"""Objects in the demo model's training: they fit what asks for them, and a grammar's part is not learnt."""

# ruff: noqa: S311 - seeded draws, nothing secret

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from training.demo_model.batches import BatchMaker, Blend
from training.demo_model.conversations import (
    FOUNDATION,
    READING,
    RECALL,
    REVIEW,
    SETTLING,
    STRUCTURED,
)
from training.demo_model.facts import Fact, draw_fact
from training.demo_model.json_text import write_object
from training.demo_model.model import export, new_model
from training.demo_model.recipe import Phase, Recipe
from training.demo_model.samples import Conversation
from training.demo_model.schemas import object_schema
from training.demo_model.structured import (
    ALL_KINDS,
    READING_KINDS,
    REVIEW_KINDS,
    SETTLING_KINDS,
    draw_structured,
)
from training.demo_model.train import train

KINDS = (ALL_KINDS, READING_KINDS, SETTLING_KINDS, REVIEW_KINDS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def samples(seed: int, count: int) -> Iterator[Conversation]:
    rng = Random(seed)
    return (draw_structured(rng, rng.choice(KINDS)) for _ in range(count))


def calls_of(sample: Conversation) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in sample.messages:
        for call in message.get("tool_calls") or []:
            yield call["function"]["name"], call["function"]["arguments"]


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_given_ranges_are_the_keys_and_nothing_else(
    values: dict[str, Any], compact: bool
) -> None:
    written = write_object(values, compact=compact)
    separators = (",", ":") if compact else None
    assert written.text == json.dumps(values, ensure_ascii=False, separators=separators)
    for first, end in written.keys:
        key, colon, rest = written.text[first:end].lstrip("{, ").rpartition(":")
        assert isinstance(json.loads(key), str)
        assert colon
        assert rest.strip() in ("", '"')


def test_an_object_fits_the_schema_that_is_shown_for_it() -> None:
    rng = Random(2)
    for _ in range(300):
        fact: Fact = draw_fact(rng)
        jsonschema.validate(fact.values, object_schema(rng, fact.title, fact.values))


def test_every_call_is_of_a_tool_on_offer_and_fits_it() -> None:
    count = 0
    for sample in samples(3, 400):
        on_offer = {tool["function"]["name"]: tool["function"] for tool in sample.tools}
        for name, arguments in calls_of(sample):
            jsonschema.validate(arguments, on_offer[name]["parameters"])
            count += 1
    assert count > 100


def test_what_is_not_given_is_learnt_of_the_answer_alone(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    maker = BatchMaker(tokenizer, seed=1, tokens=512)
    messages = [
        {"role": "user", "content": "Jason is 25."},
        {"role": "assistant", "content": "Calling a tool"},
        {"role": "user", "content": "25"},
        {"role": "assistant", "content": '{"name": "Jason", "age": 25}'},
    ]
    answer = write_object({"name": "Jason", "age": 25})
    sample = Conversation(messages, given=answer.keys, only_last=True)
    encoded = maker.encode(sample)
    learnt = [token for token, mask in zip(encoded.ids, encoded.learnt, strict=True) if mask]
    assert tokenizer.decode(learnt) == 'Jason", 25}<|end|>'


def test_a_grammars_object_stands_where_nothing_asks_for_one() -> None:
    forced = [sample for sample in samples(4, 300) if sample.given]
    assert len(forced) > 30
    for sample in forced:
        assert isinstance(json.loads(sample.messages[-1]["content"]), dict)
        assert "json" not in str(sample.messages[:-1]).lower()
        assert not sample.tools


def test_half_of_the_samples_are_of_what_was_learnt_before() -> None:
    assert all(one.structured <= 0.5 for one in (STRUCTURED, READING, SETTLING, RECALL, REVIEW))
    assert not FOUNDATION.structured


def test_a_later_phase_goes_on_from_a_models_weights(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    blend = Blend(STRUCTURED, row_weights=(0, 1, 0, 0))
    # A rate of nothing: what ends is what began.
    still = Phase(1, warmup_steps=1, peak_learning_rate=0.0, blend=blend)
    recipe = Recipe((replace(still, steps=5), still), seed=3, tokens_per_step=256)
    before = new_model(tokenizer, seed=9)
    export(before, tokenizer, tmp_path / "before")
    train(recipe, tmp_path / "work", tmp_path / "out", 100, tmp_path / "before", phases_before=1)
    assert "steps 5 to 6" in capsys.readouterr().out
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "out"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
