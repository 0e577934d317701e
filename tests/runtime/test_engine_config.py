"""What an engine is never started with."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from octavo.config import (
    Device,
    EngineConfig,
    KVCacheDtype,
    LoadFormat,
    ModelImplementation,
    Quantization,
)
from octavo.engine_keywords import EngineKeywords
from octavo.errors import InvalidConfigurationError
from octavo.llm import LLM
from octavo.options import OptionField, option_fields, read_options
from octavo.speculative_config import SpeculativeConfig


@pytest.mark.parametrize("length", [-1, 0, 1])
def test_a_context_holds_a_token_of_prompt_and_one_of_output(length: int) -> None:
    with pytest.raises(
        InvalidConfigurationError, match=f"max_model_len is {length}; .* at least 2"
    ):
        EngineConfig(model="m", max_model_len=length)
    assert EngineConfig(model="m", max_model_len=2).max_model_len == 2


@pytest.mark.parametrize("quantization", Quantization)
def test_random_weights_are_of_no_checkpoints_format(quantization: Quantization) -> None:
    fields: dict[str, Any] = {"load_format": LoadFormat.DUMMY, "quantization": quantization}
    if quantization.value in ("int8", "int4", "fp8"):
        assert EngineConfig(model="m", **fields).quantization is quantization
        return
    message = (
        f"load_format is dummy, and quantization is {quantization.value}, which a checkpoint has"
    )
    with pytest.raises(InvalidConfigurationError, match=message):
        EngineConfig(model="m", **fields)


LORA, SLEEP = {"enable_lora": True}, {"enable_sleep_mode": True}
GENERIC = {"model_impl": ModelImplementation.TRANSFORMERS}
GPUS = {"device": Device.CUDA, "tensor_parallel_size": 2}
HALVES = {"dtype": "float16", "quantization": Quantization.INT8}
GUESSES = {
    name: {"speculative_config": SpeculativeConfig.read({"method": name, **model})}
    for name, model in (("ngram", {}), ("draft_model", {"model": "d"}), ("eagle3", {"model": "d"}))
}


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (LORA, SLEEP, "enable_lora is set, but enable_sleep_mode is set too"),
        (LORA, GENERIC, ""),
        (GUESSES["draft_model"], SLEEP, ""),
        (GUESSES["eagle3"], SLEEP, ""),
        (GUESSES["eagle3"], GENERIC, "method eagle3, and model_impl is transformers"),
        (GUESSES["eagle3"], GPUS, ""),
        (GUESSES["ngram"], GPUS, ""),
        (
            HALVES,
            {"device": Device.CPU},
            "quantization is int8 and device is cpu, but dtype is float",
        ),
        (HALVES, {"device": Device.CUDA}, ""),
        (GUESSES["draft_model"], GENERIC, ""),
        (SLEEP, GENERIC, ""),
    ],
)
def test_pairs_with_which_no_engine_starts_are_refused_before_it_does(
    one: dict[str, Any], other: dict[str, Any], message: str
) -> None:
    for fields in (one, other):
        EngineConfig(model="m", **fields)
    if not message:
        EngineConfig(model="m", **one, **other)
        return
    with pytest.raises(InvalidConfigurationError, match=message):
        EngineConfig(model="m", **one, **other)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"max_num_seqs": "8"}, "an integer"),
        ({"max_num_batched_tokens": 1.5}, "an integer"),
        ({"max_model_len": "8k"}, "an integer, or None"),
        ({"kv_cache_memory_bytes": True}, "an integer, or None"),
        ({"seed": None}, "an integer"),
        ({"gpu_memory_utilization": "0.9"}, "a number, or None"),
        ({"enable_prefix_caching": "no"}, "True or False"),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_named(fields: dict[str, Any], wanted: str) -> None:
    ((name, value),) = fields.items()
    name = name.removesuffix("_bytes")  # as the flag has it
    expected = re.escape(f"{name} is {value!r}; it must be {wanted}.")
    with pytest.raises(InvalidConfigurationError, match=f"^{expected}$"):
        EngineConfig(model="m", **fields)


FIELDS = {field.name: field for field in option_fields(EngineConfig)}
NUMBERS = [field for field in FIELDS.values() if field.kind in (int, float)]


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_a_number_beyond_a_limit_is_told_the_limit(field: OptionField) -> None:
    """Whatever field comes next has limits, and they hold."""
    limits: Any = field.choices or (field.option.least, field.option.most)
    assert None not in limits, "a number without limits"
    step = 1 if field.kind is int else 0.001
    beyond: dict[Any, str] = {
        min(limits) - step: f"{min(limits)}",
        max(limits) + step: f"{max(limits)}",
    }
    for value, limit in beyond.items():
        expected = f"^{field.spelling} is {value}; .*{re.escape(limit.removesuffix('.0'))}"
        with pytest.raises(InvalidConfigurationError, match=expected):
            EngineConfig(model="m", **{field.name: value})


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_the_limits_themselves_are_taken(field: OptionField) -> None:
    for value in field.choices or (field.option.least, field.option.most):
        # The one field whose limit is another field.
        beside: dict[str, Any] = (
            {"max_num_batched_tokens": 2**31 - 1} if field.name == "max_num_seqs" else {}
        )
        beside = {"max_num_seqs": 1} if field.name == "max_num_batched_tokens" else beside
        beside |= {field.option.needs: True} if field.option.needs else {}
        config = EngineConfig(model="m", **{field.name: value, **beside})
        assert getattr(config, field.name) == value


@pytest.mark.parametrize(
    "keywords", [{"max_loras": 8}, {"max_lora_rank": 8}, {"max_cpu_loras": 1}], ids=str
)
def test_limits_of_adapters_want_adapters(keywords: dict[str, Any]) -> None:
    """Of the library and of the server alike."""
    ((name, value),) = keywords.items()
    with pytest.raises(InvalidConfigurationError, match=f"^{name} is {value} and enable_lora is"):
        LLM("builtin://demo", **keywords)
    assert getattr(EngineConfig(model="m", enable_lora=True, **keywords), name) == value


def test_every_field_is_an_option_or_filled_in_at_the_start() -> None:
    assert set(EngineConfig.__struct_fields__) - set(FIELDS) == {"model", "place"}


def test_the_keywords_of_llm_are_the_options() -> None:
    """`LLM` hands them on: what is not in the list would be refused by a type checker alone."""
    # Offline nothing is refused because of a queue.
    spellings = {name for field in FIELDS.values() for name in (field.name, field.spelling)}
    assert set(EngineKeywords.__annotations__) == spellings - {"max_queued_requests"}
    handed_on = inspect.signature(LLM.__init__).parameters["options"].annotation
    assert handed_on == "Unpack[EngineKeywords]"


@pytest.mark.parametrize(
    ("keywords", "fields"),
    [
        ({"device": "cpu"}, {"device": Device.CPU}),
        ({"kv_cache_dtype": KVCacheDtype.FP8}, {"kv_cache_dtype": KVCacheDtype.FP8}),
        ({"quantization": None}, {"quantization": None}),
        ({"kv_cache_memory": "256Mi"}, {"kv_cache_memory_bytes": 2**28}),
        ({"kv_cache_memory": 2**28}, {"kv_cache_memory_bytes": 2**28}),
        ({"kv_cache_memory_bytes": 2**28}, {"kv_cache_memory_bytes": 2**28}),
        ({"seed": 3, "unknown": 1}, {"seed": 3, "unknown": 1}),
    ],
    ids=str,
)
def test_keywords_are_read_as_people_write_them(
    keywords: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert read_options(EngineConfig, keywords) == fields


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu'; use auto, cpu or cuda."),
        ({"quantization": "q4_k"}, "quantization is 'q4_k'; use int8, int4"),
        (
            {"kv_cache_memory": 1, "kv_cache_memory_bytes": 2},
            "kv_cache_memory and kv_cache_memory_bytes mean the same",
        ),
    ],
    ids=str,
)
def test_a_keyword_that_means_nothing_is_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=f"^{re.escape(message)}"):
        read_options(EngineConfig, keywords)
