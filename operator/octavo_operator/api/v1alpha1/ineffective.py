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
    if resources.download is not None and not spec.model.is_downloaded:
        parts.append(
            f"nothing follows from spec.resources.download: {spec.model.scheme}:// downloads nothing"
        )
    return "; ".join(parts)
