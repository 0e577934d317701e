from __future__ import annotations

import itertools
from typing import Any

import pytest

from octavo_operator.api.v1alpha1 import EngineSpec, ServerSpec
from octavo_operator.render.command import engine_arguments, serve_arguments, server_arguments
from tests.support.operator.builders import KEY, spec


def pairs(arguments: list[str]) -> dict[str, str]:
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def test_the_name_of_the_object_is_served_when_no_other_is_given() -> None:
    assert pairs(serve_arguments(KEY, spec()))["--served-model-name"] == "llama"


def test_all_served_names_are_passed() -> None:
    arguments = serve_arguments(
        KEY, spec(model={"uri": "builtin://demo", "servedNames": ["a", "b"]})
    )
    at = arguments.index("--served-model-name")
    assert arguments[at : at + 4] == ["--served-model-name", "a", "--served-model-name", "b"]


@pytest.mark.parametrize(
    ("gpus", "engine", "device"),
    [(1, {}, "cuda"), (1, {"device": "cpu"}, "cpu"), (0, {"device": "cpu"}, "cpu"), (0, {}, None)],
)
def test_a_replica_with_gpus_never_computes_on_its_cpu_unasked(
    gpus: int, engine: dict[str, str], device: str | None
) -> None:
    arguments = serve_arguments(KEY, spec(engine=engine, resources={"gpu": gpus}))
    assert ("--device" in arguments) == (device is not None)
    if device:
        assert arguments[arguments.index("--device") + 1] == device


@pytest.mark.parametrize(
    ("gpus", "engine", "ranks"),
    [
        (1, {}, None),
        (4, {}, "4"),
        (4, {"device": "cuda"}, "4"),
        (4, {"tensorParallelSize": 2}, "2"),
        (4, {"device": "cpu"}, None),
        (0, {"tensorParallelSize": 2}, "2"),
    ],
)
def test_gpus_of_a_replica_share_its_model_unless_the_engine_says_otherwise(
    gpus: int, engine: dict[str, Any], ranks: str | None
) -> None:
    arguments = serve_arguments(KEY, spec(engine=engine, resources={"gpu": gpus}))
    flag = "--tensor-parallel-size"
    found = [value for name, value in itertools.pairwise(arguments) if name == flag]
    assert found == ([] if ranks is None else [ranks])


def test_an_absent_field_gives_no_flag() -> None:
    assert engine_arguments(spec()) == []


def test_every_field_of_the_engine_becomes_the_flag_of_its_name() -> None:
    """A field without a flag would be ignored silently."""
    values = {
        "maxModelLen": 4096,
        "maxNumSeqs": 32,
        "maxNumBatchedTokens": 512,
        "maxQueuedRequests": 99,
        "gpuMemoryUtilization": "0.85",
        "kvCacheMemory": "256Mi",
        "kvCacheDtype": "fp8",
        "enablePrefixCaching": False,
        "blockSize": 16,
        "dtype": "bfloat16",
        "quantization": "int4",
        "loadFormat": "dummy",
        "modelImpl": "transformers",
        "quantizeActivations": False,
        "enforceEager": True,
        "seed": 7,
        "tensorParallelSize": 2,
        "distributedTimeoutSeconds": 90,
        "enableSleepMode": True,
        "speculative": {"method": "ngram", "promptLookupMax": 3},
        "enableLora": True,
        "maxLoras": 3,
        "maxLoraRank": 64,
        "maxCpuLoras": 9,
    }
    # `--device` depends on the resources too and is tested above.
    assert {"device", *values} == {field.alias for field in EngineSpec.model_fields.values()}
    arguments = engine_arguments(spec(engine=values))
    assert arguments.pop() == "--enable-lora"
    assert arguments.pop() == "--enable-sleep-mode"
    assert arguments.pop() == "--enforce-eager"
    assert arguments.pop() == "--no-quantize-activations"
    assert arguments.pop() == "--no-enable-prefix-caching"
    assert pairs(arguments) == {
        "--speculative-config": '{"method":"ngram","prompt_lookup_max":3}',
        "--max-model-len": "4096",
        "--max-num-seqs": "32",
        "--max-num-batched-tokens": "512",
        "--max-queued-requests": "99",
        "--gpu-memory-utilization": "0.85",
        "--kv-cache-memory": str(256 * 2**20),
        "--kv-cache-dtype": "fp8",
        "--block-size": "16",
        "--dtype": "bfloat16",
        "--quantization": "int4",
        "--load-format": "dummy",
        "--model-impl": "transformers",
        "--seed": "7",
        "--tensor-parallel-size": "2",
        "--distributed-timeout-seconds": "90",
        "--max-loras": "3",
        "--max-lora-rank": "64",
        "--max-cpu-loras": "9",
    }


@pytest.mark.parametrize(
    ("value", "flags"),
    [(True, ["--enable-prefix-caching"]), (False, ["--no-enable-prefix-caching"]), (None, [])],
)
def test_prefix_caching_is_switched_either_way(value: bool | None, flags: list[str]) -> None:
    assert engine_arguments(spec(engine={"enablePrefixCaching": value})) == flags


@pytest.mark.parametrize("value", [False, None])
def test_a_switch_that_is_off_gives_no_flag(value: bool | None) -> None:
    assert engine_arguments(spec(engine={"enforceEager": value})) == []


def test_every_field_of_the_server_becomes_the_flag_of_its_name() -> None:
    values = {
        "allowedOrigins": ["https://chat.example", "http://localhost:3000"],
        "allowedHosts": ["llm.example", "llama.team.svc"],
        "metricsNames": "vllm",
        "publicMetrics": True,
        "apiServerCount": 2,
    }
    assert set(values) == {field.alias for field in ServerSpec.model_fields.values()}
    assert server_arguments(KEY, ServerSpec.model_validate(values)) == [
        "--allowed-origins",
        "https://chat.example",
        "--allowed-origins",
        "http://localhost:3000",
        # And the Service's names, once each: status.url goes on being answered.
        "--allowed-hosts",
        "llm.example",
        "--allowed-hosts",
        "llama.team.svc",
        "--allowed-hosts",
        "llama",
        "--allowed-hosts",
        "llama.team",
        "--allowed-hosts",
        "llama.team.svc.cluster.local",
        "--metrics-names",
        "vllm",
        "--api-server-count",
        "2",
        "--public-metrics",
    ]


def test_a_server_of_which_nothing_is_said_is_the_pod_that_it_was() -> None:
    """Another argument would be another revision, and restart every pod of an installation."""
    assert server_arguments(KEY, ServerSpec()) == []
    assert serve_arguments(KEY, spec())[-2:] == ["--shutdown-timeout", "300"]


def test_extra_arguments_stand_last_as_they_were_written() -> None:
    """`$(NAME)` would be a variable's value, such as a key's."""
    extra = ["--reasoning-parser=qwen3", "--no-ui", '--lora-modules={"name":"$(OCTAVO_API_KEY)$$"}']
    plain = serve_arguments(KEY, spec())
    arguments = serve_arguments(KEY, spec(extraArgs=extra))
    assert arguments[: len(plain)] == plain
    assert arguments[len(plain) :] == [*extra[:2], extra[2].replace("$", "$$")]
    assert serve_arguments(KEY, spec(extraArgs=[])) == plain
