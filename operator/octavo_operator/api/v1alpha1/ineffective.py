"""Ineffective fields. What a spec says and nothing follows from: what the schema cannot refuse, because only
the replica's node decides, and what was stored before the schema refused it."""

from __future__ import annotations

from octavo_operator.api.v1alpha1.engine import Device
from octavo_operator.api.v1alpha1.spec import LLMDeploymentSpec


def ineffective_fields(spec: LLMDeploymentSpec) -> str:
    """Names them in a sentence; empty when there are none."""
    engine, resources = spec.engine, spec.resources
    is_on_cpu = engine.device is Device.CPU or (engine.device is None and not resources.gpu)
    of_gpus = {
        "gpuMemoryUtilization": engine.gpu_memory_utilization is not None,
        "enforceEager": engine.enforce_eager is not None,
        "quantizeActivations": engine.quantize_activations is not None,
    }
    parts = []
    if is_on_cpu and any(of_gpus.values()):
        names = " and ".join(f"spec.engine.{name}" for name, is_set in of_gpus.items() if is_set)
        parts.append(f"without a GPU (spec.resources.gpu) nothing follows from {names}")
    # Not refused: with GPUs that do not exist it shows how replicas that want some are placed.
    if engine.device is Device.CPU and resources.gpu:
        parts.append("spec.resources.gpu is held and not used, because spec.engine.device is cpu")
    elif (ranks := engine.tensor_parallel_size) is not None and ranks < resources.gpu:
        parts.append(
            f"of the GPUs of spec.resources.gpu {resources.gpu - ranks} are held and not used, because "
            f"spec.engine.tensorParallelSize is {ranks}"
        )
    of_adapters = {
        "maxLoras": engine.max_loras,
        "maxLoraRank": engine.max_lora_rank,
        "maxCpuLoras": engine.max_cpu_loras,
    }
    limits = [f"spec.engine.{name}" for name, value in of_adapters.items() if value is not None]
    if limits and not engine.enable_lora:
        parts.append(f"without spec.engine.enableLora nothing follows from {' and '.join(limits)}")
    shared = engine.tensor_parallel_size or (1 if is_on_cpu else resources.gpu)
    if shared <= 1 and engine.distributed_timeout_seconds is not None:
        parts.append(
            "nothing follows from spec.engine.distributedTimeoutSeconds: no ranks share the model "
            "(spec.engine.tensorParallelSize)"
        )
    if resources.download is not None and not spec.has_downloads:
        parts.append(
            f"nothing follows from spec.resources.download: {spec.model.scheme}:// downloads nothing"
        )
    return "; ".join(parts)
