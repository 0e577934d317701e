"""The pod template: one container that serves and, for downloaded models, one before it that fetches.

The pods meet the `restricted` Pod Security Standard. The download's credentials reach the fetching
container alone, so the process that parses requests never holds them.
"""

from __future__ import annotations

from typing import Any

from octavo_operator.api.quantity import duration_seconds
from octavo_operator.api.v1alpha1 import AccessMode, ResourcesSpec
from octavo_operator.manifest import Manifest, digest
from octavo_operator.render import cache
from octavo_operator.render.command import (
    CLAIM_PATH,
    MODELS_PATH,
    claim_name,
    fetch_arguments,
    serve_arguments,
)
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import (
    CONTAINER,
    HTTP_PORT,
    OPS_PORT,
    REVISION_LABEL,
    labels,
    selector,
)

FETCH_CONTAINER = "fetch"
USER_ID = 65532
_TERMINATION_MARGIN_SECONDS = 30
_STARTUP_PERIOD_SECONDS = 1
_STARTUP_SECONDS = 24 * 3600
_DEFAULT_CPU = "500m"
_DEFAULT_MEMORY = "1Gi"
_FETCH_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}}


def pod_template(context: RenderContext) -> Manifest:
    """The template with its revision: a hash of everything in it, as a label on its pods."""
    template: Manifest = {
        "metadata": {
            "labels": labels(context.name),
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(OPS_PORT),
                "prometheus.io/path": "/metrics",
                "kubectl.kubernetes.io/default-container": CONTAINER,
            },
        },
        "spec": _pod_spec(context),
    }
    template["metadata"]["labels"][REVISION_LABEL] = digest(template)
    return template


def revision_of(template: Manifest) -> str:
    """The revision that `pod_template` put on it."""
    return str(template["metadata"]["labels"][REVISION_LABEL])


def _pod_spec(context: RenderContext) -> dict[str, Any]:
    spec, scheduling = context.spec, context.spec.scheduling
    drain_seconds = duration_seconds(spec.rollout.drain_timeout)
    pod: dict[str, Any] = {
        "serviceAccountName": context.name,
        "automountServiceAccountToken": False,
        # Kubernetes would otherwise inject a variable for every Service of the namespace.
        "enableServiceLinks": False,
        # Process 1 of a namespace ignores a SIGTERM that it has no handler for yet, so a pod that is
        # taken away while it starts would serve on until it is killed. Here the pause container is
        # process 1; it also reaps what the engine leaves behind.
        "shareProcessNamespace": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": drain_seconds + _TERMINATION_MARGIN_SECONDS,
        "containers": [_serve_container(context)],
        "volumes": _volumes(context),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(context.name)},
            }
        ],
    }
    if spec.model.is_downloaded:
        pod["initContainers"] = [_fetch_container(context)]
    if context.installation.image_pull_secrets:
        pod["imagePullSecrets"] = [
            {"name": name} for name in context.installation.image_pull_secrets
        ]
    if _needs_one_node(context):
        pod["affinity"] = _one_node(context)
    if scheduling.node_selector:
        pod["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        pod["tolerations"] = [
            toleration.model_dump(by_alias=True, exclude_none=True, mode="json")
            for toleration in scheduling.tolerations
        ]
    if scheduling.runtime_class_name:
        pod["runtimeClassName"] = scheduling.runtime_class_name
    if scheduling.priority_class_name:
        pod["priorityClassName"] = scheduling.priority_class_name
    return pod


def _serve_container(context: RenderContext) -> dict[str, Any]:
    spec = context.spec
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (inside the container)
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if spec.model.is_downloaded:
        mounts.append({"name": "models", "mountPath": MODELS_PATH, "readOnly": True})
    if spec.model.scheme == "pvc":
        mounts.append({"name": "claim", "mountPath": CLAIM_PATH, "readOnly": True})
    container: dict[str, Any] = {
        **_container(context, CONTAINER, serve_arguments(context.name, spec), mounts),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "ops", "containerPort": OPS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(spec.resources),
        **_probes(),
    }
    if spec.model.is_downloaded:
        # The fetching container did it all: serving asks no hub, so it needs no credentials.
        container["env"].append({"name": "HF_HUB_OFFLINE", "value": "1"})
    if spec.resources.cpu:
        # Without a limit the container sees every core of its node: threads follow the request,
        # rounded up to whole cores.
        reference = {"resource": "requests.cpu", "divisor": "1"}
        container["env"].append(
            {"name": "OCTAVO_CPUS", "valueFrom": {"resourceFieldRef": reference}}
        )
    if spec.auth:
        key = spec.auth.secret_ref
        container["env"].append(
            {
                "name": "OCTAVO_API_KEY",
                "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}},
            }
        )
    return container


def _fetch_container(context: RenderContext) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "models", "mountPath": MODELS_PATH},
    ]
    arguments = fetch_arguments(context.spec.model)
    container = _container(context, FETCH_CONTAINER, arguments, mounts)
    container["resources"] = _FETCH_RESOURCES
    if context.spec.model.secret_ref:
        container["envFrom"] = [{"secretRef": {"name": context.spec.model.secret_ref.name}}]
    return container


def _container(
    context: RenderContext, name: str, arguments: list[str], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": name,
        "image": context.installation.runtime_image,
        "imagePullPolicy": context.installation.image_pull_policy,
        "command": ["octavo"],
        "args": arguments,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _probes() -> dict[str, Any]:
    """Start-up is asked every second, so that a ready pod serves at once, and for a day, the longest
    `rollout.progressDeadline`. The deadline itself is the Deployment's: in the template a change of it
    would start every pod anew, and a model that loads slowly would never come to its end."""

    def get(path: str) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": "ops"}}

    return {
        "startupProbe": {
            **get("/startupz"),
            "periodSeconds": _STARTUP_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": _STARTUP_SECONDS // _STARTUP_PERIOD_SECONDS,
        },
        "readinessProbe": {
            **get("/readyz"),
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            **get("/livez"),
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }


def _resources(resources: ResourcesSpec) -> dict[str, Any]:
    """Requests and limits. No CPU limit: throttling a busy server only makes requests late."""
    rendered: dict[str, Any] = {
        "requests": {
            "cpu": resources.cpu or _DEFAULT_CPU,
            "memory": resources.memory or _DEFAULT_MEMORY,
        }
    }
    limits: dict[str, str] = {}
    if resources.memory:
        limits["memory"] = resources.memory
    if resources.gpu:
        # Extended resources cannot be overcommitted: the request must equal the limit.
        limits[resources.gpu_resource] = str(resources.gpu)
        rendered["requests"][resources.gpu_resource] = str(resources.gpu)
    if limits:
        rendered["limits"] = limits
    return rendered


def _volumes(context: RenderContext) -> list[dict[str, Any]]:
    model = context.spec.model
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ]
    if model.is_downloaded:
        source: dict[str, Any] = {"emptyDir": {}}
        if model.cache:
            source = {"persistentVolumeClaim": {"claimName": cache.claim(context)}}
        volumes.append({"name": "models", **source})
    if model.scheme == "pvc":
        volumes.append(
            {
                "name": "claim",
                "persistentVolumeClaim": {"claimName": claim_name(model), "readOnly": True},
            }
        )
    return volumes


def _needs_one_node(context: RenderContext) -> bool:
    model = context.spec.model
    if model.scheme == "pvc":
        return context.is_claim_of_one_node
    return model.cache is not None and model.cache.access_mode is AccessMode.READ_WRITE_ONCE


def _one_node(context: RenderContext) -> dict[str, Any]:
    """A ReadWriteOnce volume is mounted by one node: later pods must follow the first."""
    return {
        "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": selector(context.name)},
                }
            ]
        }
    }
