"""Arguments that `LLM` refuses, each by its name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.errors import (
    ContextLengthExceededError,
    InvalidConfigurationError,
    InvalidParameterError,
    ModelNotFoundError,
)
from octavo.lora import LoRARequest
from tests.support.runtime.llm_on_llama import GREEDY, Model, tokens_of


def test_a_prompt_that_is_too_long_is_refused_and_nothing_stays(model: Model, llm: LLM) -> None:
    with pytest.raises(
        ContextLengthExceededError, match="has 300 tokens, but the context holds 256"
    ):
        llm.generate([model.prompts[0], [1] * 300], GREEDY)
    assert llm.stats.num_waiting == 0
    assert tokens_of(llm.generate(model.prompts[:1], GREEDY)) == model.expected[:1]


def test_a_list_of_another_length_is_refused(llm: LLM) -> None:
    with pytest.raises(InvalidParameterError, match="2 prompts and 1 sampling_params"):
        llm.generate(["a", "b"], [GREEDY])


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="/does/not/exist"):
        LLM("/does/not/exist")


@pytest.mark.parametrize("name", ["kv_cache_dtype", "device", "load_format", "quantization"])
def test_a_value_that_is_none_of_those_known_is_refused_by_name(model: Model, name: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=f"{name} is 'int3'; use "):
        LLM(str(model.folder), **{name: "int3"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": 5},
        {"stop": [5]},
        {"stop": b"x"},
        {"stop_token_ids": ["a"]},
        {"stop_token_ids": 5},
        {"stop_token_ids": [True]},
        {"allowed_token_ids": [False]},
        {"logit_bias": {True: 1.0}},
        {"bad_words_token_ids": [[True]]},
        {"ignore_eos": "yes"},
        {"skip_special_tokens": None},
        {"max_tokens": "8"},
    ],
    ids=str,
)
def test_a_sampling_parameter_of_the_wrong_kind_is_named(fields: dict[str, Any]) -> None:
    ((name, value),) = fields.items()
    with pytest.raises(InvalidParameterError, match=f"^{name} is {re.escape(repr(value))}; it"):
        SamplingParams(**fields)


@pytest.mark.parametrize("number", [0, 2**63, 2**70, True, "1"], ids=str)
def test_an_adapters_number_has_63_bits(number: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"an integer in \[1, 9223372036854775807\]"):
        LoRARequest("name", number, "folder")
    LoRARequest("name", 2**63 - 1, "folder")


def test_limits_are_told_to_the_last_digit() -> None:
    with pytest.raises(InvalidParameterError, match=r"an integer in \[0, 2147483647\]"):
        SamplingParams(max_tokens=-1)


@pytest.mark.parametrize(
    "prompts",
    [
        *(None, 5, b"abc", [None], [b"a"], [["a"]], [[True]], [True]),
        *({"prompt": [1]}, {"text": "a"}, [{"prompt": 5}]),
    ],
    ids=str,
)
def test_other_kinds_of_prompts_are_refused(llm: LLM, prompts: Any) -> None:
    for method in (llm.generate, llm.embed, llm.beam_search):
        with pytest.raises(InvalidParameterError, match="A prompt is a text, a list of token ids"):
            method(prompts)


@pytest.mark.parametrize(
    "prompts",
    [
        [np.array([5, 6])],
        np.array([5, 6]),
        [torch.tensor([5, 6])],
        {"prompt_token_ids": np.ones(2)},
    ],
    ids=str,
)
def test_arrays_are_no_prompts_and_their_lists_are(llm: LLM, prompts: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"A prompt is .*\. Give what its tolist"):
        llm.generate(prompts)


def test_half_a_surrogate_pair_is_refused(llm: LLM) -> None:
    with pytest.raises(InvalidParameterError, match="half of a surrogate pair"):
        llm.generate("a\ud800")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sampling_params": {"temperature": 0}},
            "sampling_params holds {'temperature': 0}; it must",
        ),
        ({"priority": "high"}, "priority holds 'high'; it must be int"),
        ({"priority": [1.5]}, "priority holds 1.5"),
    ],
)
def test_other_arguments_are_refused_by_name(
    llm: LLM, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        llm.generate(["a"], **arguments)
    assert llm.stats.num_waiting == 0


@pytest.mark.parametrize("messages", ["hello", [["hello"]], [{"role": "user"}, "hello"], 5])
def test_what_is_no_conversation_is_refused(llm: LLM, messages: Any) -> None:
    with pytest.raises(InvalidParameterError, match="A conversation is a list of messages"):
        llm.chat(messages)
