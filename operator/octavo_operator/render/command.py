"""The command lines of the pods. Lists of arguments: nothing of a spec ever meets a shell."""

from __future__ import annotations

from octavo_operator.api.quantity import duration_seconds, quantity_bytes
from octavo_operator.api.v1alpha1 import Device, EngineSpec, LLMDeploymentSpec, ModelSpec
from octavo_operator.names import HTTP_PORT, OPS_PORT

MODELS_PATH = "/models"
CLAIM_PATH = "/claim"


def serve_arguments(name: str, spec: LLMDeploymentSpec) -> list[str]:
    """`octavo serve …` without the program's name."""
    arguments = ["serve", model_argument(spec.model)]
    if spec.model.is_downloaded:
        arguments += ["--download-dir", MODELS_PATH]
    for served_name in spec.model.served_names or (name,):
        arguments += ["--served-model-name", served_name]
    arguments += ["--host", "0.0.0.0", "--port", str(HTTP_PORT), "--ops-port", str(OPS_PORT)]  # noqa: S104
    arguments += ["--shutdown-timeout", str(duration_seconds(spec.rollout.drain_timeout))]
    device = spec.engine.device or (Device.CUDA if spec.resources.gpu else None)
    if device:
        arguments += ["--device", device]
    return arguments + engine_arguments(spec.engine)


def fetch_arguments(model: ModelSpec) -> list[str]:
    """`octavo fetch …` without the program's name."""
    return ["fetch", model.uri, "--to", MODELS_PATH]


def model_argument(model: ModelSpec) -> str:
    """What `octavo serve` is given: the URI, or for `pvc://` the folder in the mounted claim."""
    if model.scheme != "pvc":
        return model.uri
    path = model.uri.removeprefix("pvc://").partition("/")[2].rstrip("/")
    return f"{CLAIM_PATH}/{path}" if path else CLAIM_PATH


def claim_name(model: ModelSpec) -> str:
    """The claim that `pvc://claim/path` names."""
    return model.uri.removeprefix("pvc://").partition("/")[0]


def engine_arguments(engine: EngineSpec) -> list[str]:
    """The flags of `spec.engine`; an absent field gives none, so that the runtime's default holds."""
    values: dict[str, object | None] = {
        "--max-model-len": engine.max_model_len,
        "--max-num-seqs": engine.max_num_seqs,
        "--max-num-batched-tokens": engine.max_num_batched_tokens,
        "--max-queued-requests": engine.max_queued_requests,
        "--gpu-memory-utilization": engine.gpu_memory_utilization,
        "--kv-cache-memory": (
            None if engine.kv_cache_memory is None else quantity_bytes(engine.kv_cache_memory)
        ),
        "--kv-cache-dtype": engine.kv_cache_dtype,
        "--block-size": engine.block_size,
        "--dtype": engine.dtype,
        "--quantization": engine.quantization,
        "--load-format": engine.load_format,
        "--seed": engine.seed,
    }
    arguments = [
        part for flag, value in values.items() if value is not None for part in (flag, str(value))
    ]
    if engine.enable_prefix_caching is not None:
        switch = "enable" if engine.enable_prefix_caching else "no-enable"
        arguments.append(f"--{switch}-prefix-caching")
    return [*arguments, "--enforce-eager"] if engine.enforce_eager else arguments
