"""Every value that `spec.engine` takes arrives in the engine's configuration, through octavo's own flags."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octavo.config import EngineConfig
from octavo.options import OptionField, option_fields
from octavo.quantity import parse_bytes
from octavo.server.process.options import ServeOptions
from octavo_operator.api.quantity import duration_seconds, parse_quantity, quantity_bytes
from octavo_operator.api.v1alpha1 import EngineSpec
from octavo_operator.api.v1alpha1.engine import (
    DEFAULT_MAX_NUM_BATCHED_TOKENS,
    DEFAULT_MAX_NUM_SEQS,
)
from octavo_operator.api.v1alpha1.pods import MAX_DRAIN_TIMEOUT
from octavo_operator.api.v1alpha1.speculative import SpeculativeSpec
from octavo_operator.autoscale.decide import DEFAULT_SLOTS
from octavo_operator.crd import crd
from octavo_operator.render.command import fetch_arguments, serve_arguments
from tests.support.operator.builders import KEY, spec
from tests.support.runtime.command_line import context_of, parsed

OPTIONS = {field.spelling: field for field in option_fields(EngineConfig)}
NAMES = {field.alias: name for name, field in EngineSpec.model_fields.items()}


def schema() -> dict[str, Any]:
    """The properties of `spec.engine` as the API server checks them, by the field's name in Python."""
    version = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = version["properties"]["spec"]["properties"]["engine"]["properties"]
    return {NAMES[alias]: node for alias, node in found.items()}


QUANTITIES = st.one_of(
    st.builds(
        "{}{}".format,
        st.integers(2, 1023),
        st.sampled_from(["Mi", "Gi", "Ti", "Pi", "M", "G", "P"]),
    ),
    st.integers(2**20, 2**63 - 1).map(str),
    st.sampled_from(
        ["1Ei", "7Ei", "9E", "1.5Gi", ".5Gi", "129e6", "2E6", "1E30", "+4Gi", "2000000000m"]
    ),
)
SHARES = st.one_of(
    st.integers(500, 10_000).map(lambda share: f"{Decimal(share) / 10_000:f}"),
    st.sampled_from(["0.05", "0.0500", "1", "1.0", "1.0000"]),
)
SPECULATIVE = st.fixed_dictionaries(
    {"method": st.just("ngram")},
    optional={
        "numSpeculativeTokens": st.integers(1, 32),
        "promptLookupMin": st.integers(1, 5),
        "promptLookupMax": st.integers(5, 16),
    },
) | st.fixed_dictionaries(
    {
        "method": st.sampled_from(["draft_model", "eagle3"]),
        "model": st.sampled_from(
            [{"uri": f"{place}://org/draft"} for place in ("hf", "s3", "pvc")]
        ),
    },
    optional={"numSpeculativeTokens": st.integers(1, 32)},
)
OTHERS = {
    "kv_cache_memory": QUANTITIES | st.integers(2**20, 2**50),
    "gpu_memory_utilization": SHARES,
    "speculative_config": SPECULATIVE,
}


def values(name: str, node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What the schema allows; its limits often. What nobody described here fails."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if name in OTHERS:
        return OTHERS[name]
    if node["type"] == "boolean":
        return st.booleans()
    least, most = node["minimum"], node["maximum"]
    return st.sampled_from([least, most]) | st.integers(least, most)


def engines() -> st.SearchStrategy[EngineSpec]:
    """Any `spec.engine`, with any of its fields absent."""
    optional = {name: values(name, node) for name, node in schema().items()}
    return (
        st.fixed_dictionaries({}, optional=optional)
        .filter(_is_within_budget)
        .map(_with_adapters)
        .map(_with_weights)
        .map(_without_pairs)
        .map(EngineSpec.model_validate)
    )


def _is_within_budget(engine: dict[str, Any]) -> bool:
    """A rule between two fields, which the API server alone checks."""
    tokens = engine.get("max_num_batched_tokens", DEFAULT_MAX_NUM_BATCHED_TOKENS)
    return bool(tokens >= engine.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS))


def _with_adapters(engine: dict[str, Any]) -> dict[str, Any]:
    """Limits of adapters are refused where there are none; by the pod, which tells why."""
    if {"max_loras", "max_lora_rank", "max_cpu_loras"} & engine.keys():
        return {**engine, "enable_lora": True}
    return engine


def _with_weights(engine: dict[str, Any]) -> dict[str, Any]:
    """Random ones are of no checkpoint's format."""
    if engine.get("quantization") in {"awq", "gptq", "compressed-tensors", "mxfp4"}:
        return {name: value for name, value in engine.items() if name != "load_format"}
    return engine


def _without_pairs(engine: dict[str, Any]) -> dict[str, Any]:
    """What the API server refuses beside adapters, a model that guesses and quantised weights."""
    speculative = engine.get("speculative_config")
    guesses = speculative is not None and speculative.get("model") is not None
    dropped = set()
    if engine.get("enable_lora"):
        dropped.add("enable_sleep_mode")
    if guesses:
        dropped.add("model_impl")
    if guesses or "quantization" in engine:
        dropped.add("device")
    return {name: value for name, value in engine.items() if name not in dropped}


def held(field: OptionField, value: Any) -> object:
    """What the engine must be given for a value of the custom resource."""
    if field.option.is_size:
        return int(parse_quantity(value))
    if isinstance(value, SpeculativeSpec):
        members = value.model_dump(exclude_none=True)
        if value.model is not None:
            uri = value.model.uri
            members["model"] = "/draft-claim/draft" if uri.startswith("pvc") else uri
        return field.kind.read(members)
    if isinstance(value, Enum) and issubclass(field.kind, Enum):
        return field.kind(value.value)
    return field.kind(value)


@given(engines())
@example(EngineSpec())
@settings(deadline=None, max_examples=100)
def test_every_value_of_the_spec_arrives_in_the_engine(engine: EngineSpec) -> None:
    given_values = engine.model_dump(exclude_none=True, by_alias=True)
    config = parsed(serve_arguments(KEY, spec(engine=given_values))).engine
    for name, field in OPTIONS.items():
        value = getattr(engine, name)
        expected = field.default if value is None else held(field, value)
        assert getattr(config, field.name) == expected, name


def test_every_option_is_a_field_and_every_field_an_option() -> None:
    assert set(EngineSpec.model_fields) == set(OPTIONS)


# Where the custom resource takes less than the flag, and why.
NARROWER = {
    "device": {"auto"},  # what is absent follows the GPUs that are asked for
    "kv_cache_dtype": {"fp8_e4m3"},  # the second name of fp8
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_field_takes_what_its_flag_takes(name: str) -> None:
    node, field = schema()[name], OPTIONS[name]
    if "enum" in node:
        assert set(node["enum"]) == set(field.choices) - NARROWER.get(name, set())
    elif name == "seed":
        # Never negative, and exact in any JSON reader.
        assert (node["minimum"], node["maximum"]) == (0, 2**53)
        assert field.option.least == -(2**63)
        assert field.option.most == 2**63 - 1
    elif node.get("type") == "integer":
        assert (node["minimum"], node["maximum"]) == (field.option.least, field.option.most)
    else:
        assert node.get("type") == "boolean" or name in OTHERS


@pytest.mark.parametrize("name", OPTIONS)
def test_a_description_begins_as_the_help_of_its_flag(name: str) -> None:
    meaning = re.split(r"\.(?: |$)", OPTIONS[name].option.help)[0]
    assert schema()[name]["description"].startswith(f"{meaning}.")


def test_the_defaults_that_the_operator_reckons_with_are_those_of_the_engine() -> None:
    assert OPTIONS["max_num_seqs"].default == DEFAULT_MAX_NUM_SEQS == DEFAULT_SLOTS
    assert OPTIONS["max_num_batched_tokens"].default == DEFAULT_MAX_NUM_BATCHED_TOKENS


@given(QUANTITIES.filter(lambda text: not text.endswith("m")))
@settings(deadline=None)
def test_both_sides_read_a_quantity_alike(text: str) -> None:
    """Up to 64 bits, where Kubernetes stops counting; thousandths of a byte are for people nothing."""
    assert min(parse_bytes("size", text), 2**63 - 1) == quantity_bytes(text)


@pytest.mark.parametrize("timeout", ["0s", "1ms", "30s", "5m", "1h30m", MAX_DRAIN_TIMEOUT])
def test_every_drain_timeout_is_taken(timeout: str) -> None:
    options = parsed(serve_arguments(KEY, spec(rollout={"drainTimeout": timeout})))
    assert options.drain_timeout_seconds == duration_seconds(timeout)


def test_the_longest_drain_is_the_same_on_both_sides() -> None:
    (drain,) = [field for field in option_fields(ServeOptions) if field.spelling == "drain_timeout"]
    assert drain.option.most == duration_seconds(MAX_DRAIN_TIMEOUT)


@pytest.mark.parametrize(
    "uri", ["hf://org/name@main", "s3://bucket/a", "pvc://claim/a", "builtin://demo"]
)
def test_every_form_of_a_model_is_served_and_fetched_under_its_names(uri: str) -> None:
    wanted = spec(model={"uri": uri, "servedNames": ["a", "org/b:1"]})
    options = parsed(serve_arguments(KEY, wanted))
    assert options.served_names == ("a", "org/b:1")
    assert options.model == ("/claim/a" if uri.startswith("pvc") else uri)
    if wanted.model.is_downloaded:
        fetched = context_of(fetch_arguments(wanted.model))
        assert (fetched["model"], fetched["to"]) == (uri, options.download_dir)
