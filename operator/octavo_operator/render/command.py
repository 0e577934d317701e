"""Command lines of the pods. Lists of arguments: nothing of a spec ever meets a shell."""

from __future__ import annotations

import json
from collections.abc import Mapping

from octavo_operator.api.quantity import duration_seconds, quantity_bytes
from octavo_operator.api.v1alpha1 import (
    Device,
    LLMDeploymentSpec,
    ModelSource,
    ServerSpec,
    SpeculativeSpec,
)
from octavo_operator.manifest import ObjectKey
from octavo_operator.names import CLAIM_PATH, DRAFT_CLAIM_PATH, HTTP_PORT, MODELS_PATH, OPS_PORT
from octavo_operator.render.listening import EVERY_ADDRESS
from octavo_operator.render.service import host_names


def serve_arguments(
    key: ObjectKey, spec: LLMDeploymentSpec, address: str = EVERY_ADDRESS
) -> list[str]:
    """`octavo serve …` without the program's name, for the object `key`, listening on `address`."""
    arguments = ["serve", _model_argument(spec, spec.model)]
    if spec.has_downloads:
        arguments += ["--download-dir", MODELS_PATH]
    for served_name in spec.model.served_names or (key.name,):
        arguments += ["--served-model-name", served_name]
    arguments += ["--host", address, "--port", str(HTTP_PORT), "--ops-port", str(OPS_PORT)]
    # The alias of --drain-timeout: another spelling would be another revision, and restart every pod.
    arguments += ["--shutdown-timeout", str(duration_seconds(spec.rollout.drain_timeout))]
    device = spec.engine.device or (Device.CUDA if spec.resources.gpu else None)
    if device:
        arguments += ["--device", device]
    if spec.engine.tensor_parallel_size is None and (ranks := ranks_on_gpus(spec)) > 1:
        arguments += ["--tensor-parallel-size", str(ranks)]
    arguments += engine_arguments(spec) + server_arguments(key, spec.server)
    return arguments + [_as_written(each) for each in spec.extra_args or ()]


def _as_written(argument: str) -> str:
    """Kubernetes puts a variable's value in the place of $(NAME), a key's too, and makes one $ of two."""
    return argument.replace("$", "$$")


def ranks_on_gpus(spec: LLMDeploymentSpec) -> int:
    """Processes that share the model, a GPU each; 0 for a model that runs on CPUs."""
    if spec.engine.device is Device.CPU or not spec.resources.gpu:
        return 0
    return spec.engine.tensor_parallel_size or spec.resources.gpu


def fetch_arguments(source: ModelSource) -> list[str]:
    """`octavo fetch …` without the program's name."""
    return ["fetch", source.uri, "--to", MODELS_PATH]


def claim_paths(spec: LLMDeploymentSpec) -> dict[str, str]:
    """Where the claims of `pvc://` are mounted, by their names."""
    paths = {} if spec.model.claim is None else {spec.model.claim: CLAIM_PATH}
    # A pod that names one claim twice mounts it once: some drivers would wait for themselves.
    return {name: paths.get(name, DRAFT_CLAIM_PATH) for name in spec.claims}


def engine_arguments(spec: LLMDeploymentSpec) -> list[str]:
    """The flags of `spec.engine`; the device's depends on the resources too."""
    given = {name: value for name, value in spec.engine if name != "device"}
    if (speculative := spec.engine.speculative_config) is not None:
        given["speculative_config"] = _speculative_argument(spec, speculative)
    return _flags(given)


def _speculative_argument(spec: LLMDeploymentSpec, speculative: SpeculativeSpec) -> str:
    members = speculative.model_dump(mode="json", exclude_none=True, exclude={"model"})
    if speculative.model is not None:
        members["model"] = _model_argument(spec, speculative.model)
    return json.dumps(members, separators=(",", ":"))


def _model_argument(spec: LLMDeploymentSpec, source: ModelSource) -> str:
    """What `octavo serve` is given: the URI, or for `pvc://` the folder in the mounted claim."""
    if source.claim is None:
        return source.uri
    return "/".join(part for part in (claim_paths(spec)[source.claim], source.path) if part)


def server_arguments(key: ObjectKey, server: ServerSpec) -> list[str]:
    """The flags of `spec.server`. Who names hosts names those of clients outside: the cluster's own go on
    asking the Service."""
    given = dict(server)
    if server.allowed_hosts is not None:
        given["allowed_hosts"] = tuple(dict.fromkeys((*server.allowed_hosts, *host_names(key))))
    return _flags(given)


def _flags(fields: Mapping[str, object]) -> list[str]:
    """Each its field's name with dashes, once for each item of a list; switches come last.

    An absent field gives none, so that the runtime's default holds. The order is part of the pod template,
    and so of its revision: a new field stands behind the others of its kind.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    switches = {name: value for name, value in given.items() if isinstance(value, bool)}
    arguments = [
        part
        for name, value in given.items()
        if name not in switches
        for item in (value if isinstance(value, tuple) else (value,))
        for part in (_flag(name), _text(name, item))
    ]
    for name, is_on in switches.items():
        if is_on:
            arguments.append(_flag(name))
        elif name in _ON_UNLESS_TOLD:
            arguments.append(_flag(f"no-{name}"))
    return arguments


_SIZES = {"kv_cache_memory"}
"""Fields that hold a quantity; the runtime gets bytes."""

_ON_UNLESS_TOLD = {"enable_prefix_caching", "quantize_activations"}
"""Switches that the runtime's default leaves on: to be off takes a flag."""


def _text(field: str, value: object) -> str:
    return str(quantity_bytes(str(value)) if field in _SIZES else value)


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"
