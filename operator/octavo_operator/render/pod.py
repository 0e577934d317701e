"""Pod template: one container that serves and, for what is downloaded, one each before it that fetches.

The pods meet the `restricted` Pod Security Standard. The download's credentials reach the fetching
container alone, so the process that parses requests never holds them.
"""

from __future__ import annotations

from octavo_operator.api import v1alpha1
from octavo_operator.api.quantity import duration_seconds, parse_quantity
from octavo_operator.api.v1alpha1 import (
    AccessMode,
    DownloadResourcesSpec,
    ModelSource,
    ResourcesSpec,
)
from octavo_operator.api.v1alpha1.pods import DEFAULT_CPU
from octavo_operator.api.v1alpha1.source import SecretReference
from octavo_operator.manifest import digest
from octavo_operator.manifest_types import (
    Affinity,
    Container,
    PodSecurityContext,
    PodSpec,
    PodTemplateSpec,
    Probe,
    ResourceRequirements,
    Toleration,
    Volume,
    VolumeMount,
)
from octavo_operator.names import (
    FETCH_CONTAINER,
    FETCH_DRAFT_CONTAINER,
    HTTP_PORT,
    HTTP_PORT_NAME,
    MODELS_PATH,
    OPS_PORT,
    OPS_PORT_NAME,
    REVISION_LABEL,
    SERVE_CONTAINER,
    labels,
    selector,
)
from octavo_operator.render import api_keys, cache, download_progress, listening
from octavo_operator.render.command import (
    claim_paths,
    fetch_arguments,
    ranks_on_gpus,
    serve_arguments,
)
from octavo_operator.render.context import PodContext
from octavo_operator.render.runtime_image import runtime_image

_TERMINATION_MARGIN_SECONDS = 30
_STARTUP_PERIOD_SECONDS = 1
_STARTUP_SECONDS = 24 * 3600
_DEFAULT_MEMORY = "1Gi"
# Memory that GPUs of one pod share lies in /dev/shm. NCCL would rather have CUDA allocate it near a GPU, for
# which it must ask for the node's memory policy: a right that the restricted Pod Security Standard takes.
_NCCL = {"NCCL_CUMEM_HOST_ENABLE": "0"}
_DOWNLOAD_REQUESTS = {"cpu": "100m", "memory": "256Mi"}


def pod_template(context: PodContext) -> PodTemplateSpec:
    """The template with its revision: a hash of everything in it, as a label on its pods."""
    template: PodTemplateSpec = {
        "metadata": {
            "labels": labels(context.name) | context.spec.pods.labels,
            "annotations": {
                **context.spec.pods.annotations,
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(OPS_PORT),
                "prometheus.io/path": "/metrics",
                "kubectl.kubernetes.io/default-container": SERVE_CONTAINER,
            },
        },
        "spec": _pod_spec(context),
    }
    template["metadata"]["labels"][REVISION_LABEL] = digest(template)
    return template


def revision_of(template: PodTemplateSpec) -> str:
    """The revision that `pod_template` put on it."""
    return template["metadata"]["labels"][REVISION_LABEL]


def _pod_spec(context: PodContext) -> PodSpec:
    spec, scheduling = context.spec, context.spec.scheduling
    drain_seconds = duration_seconds(spec.rollout.drain_timeout)
    pod: PodSpec = {
        "serviceAccountName": context.name,
        "automountServiceAccountToken": False,
        # Kubernetes would otherwise inject a variable for every Service of the namespace.
        "enableServiceLinks": False,
        # Process 1 of a namespace ignores a SIGTERM that it has no handler for yet, so a pod that is
        # taken away while it starts would serve on until it is killed. Here the pause container is
        # process 1; it also reaps what the engine leaves behind.
        "shareProcessNamespace": True,
        "securityContext": _security(context.installation.user_id),
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
    if spec.has_downloads:
        pod["initContainers"] = _fetch_containers(context)
    pull_secrets = (
        *context.installation.image_pull_secrets,
        *(each.name for each in spec.pods.image_pull_secrets),
    )
    if pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in dict.fromkeys(pull_secrets)]
    if _needs_one_node(context):
        pod["affinity"] = _one_node(context)
    if scheduling.node_selector:
        pod["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        pod["tolerations"] = [_toleration(each) for each in scheduling.tolerations]
    if scheduling.runtime_class_name:
        pod["runtimeClassName"] = scheduling.runtime_class_name
    if scheduling.priority_class_name:
        pod["priorityClassName"] = scheduling.priority_class_name
    return pod


def _security(user_id: int | None) -> PodSecurityContext:
    security: PodSecurityContext = {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if user_id is not None:
        security |= {"runAsUser": user_id, "runAsGroup": user_id, "fsGroup": user_id}
    return security


def _toleration(toleration: v1alpha1.Toleration) -> Toleration:
    rendered: Toleration = {}
    if toleration.key is not None:
        rendered["key"] = toleration.key
    if toleration.operator is not None:
        rendered["operator"] = toleration.operator.value
    if toleration.value is not None:
        rendered["value"] = toleration.value
    if toleration.effect is not None:
        rendered["effect"] = toleration.effect.value
    if toleration.toleration_seconds is not None:
        rendered["tolerationSeconds"] = toleration.toleration_seconds
    return rendered


def _serve_container(context: PodContext) -> Container:
    spec = context.spec
    mounts: list[VolumeMount] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (inside the container)
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if spec.has_downloads:
        mounts.append({"name": "models", "mountPath": MODELS_PATH, "readOnly": True})
    mounts += [
        {"name": _claim_volume(path), "mountPath": path, "readOnly": True}
        for path in claim_paths(spec).values()
    ]
    mounts += api_keys.mounts(context)
    arguments = serve_arguments(context.owner.key, spec, listening.serving_address(context))
    arguments += api_keys.arguments(context)
    container: Container = {
        **_container(context, SERVE_CONTAINER, arguments, mounts),
        "ports": [
            {"name": HTTP_PORT_NAME, "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": OPS_PORT_NAME, "containerPort": OPS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(spec.resources),
        # Start-up is asked every second, so that a ready pod serves at once, and for a day, the longest
        # `rollout.progressDeadline`. The deadline itself is the workload's: in the template a change of
        # it would start every pod anew, and a model that loads slowly would never come to its end.
        "startupProbe": _probe(
            "/startupz",
            period=_STARTUP_PERIOD_SECONDS,
            timeout=5,
            failures=_STARTUP_SECONDS // _STARTUP_PERIOD_SECONDS,
        ),
        "readinessProbe": _probe("/readyz", period=2, timeout=5, failures=3),
        "livenessProbe": _probe("/livez", period=10, timeout=10, failures=6),
    }
    if spec.has_downloads:
        # The fetching container did it all: serving asks no hub, so it needs no credentials.
        container["env"].append({"name": "HF_HUB_OFFLINE", "value": "1"})
    if spec.resources.cpu:
        # Without a limit the container sees every core of its node: threads follow the request,
        # rounded up to whole cores.
        container["env"].append(
            {
                "name": "OCTAVO_CPUS",
                "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1"}},
            }
        )
    container["env"] += api_keys.variables(context)
    if ranks_on_gpus(spec) > 1:
        named = {each.name for each in spec.pods.env}
        container["env"] += [
            {"name": name, "value": value} for name, value in _NCCL.items() if name not in named
        ]
    container["env"] += [{"name": each.name, "value": each.value} for each in spec.pods.env]
    return container


def _fetch_containers(context: PodContext) -> list[Container]:
    """One for each download, as each has credentials of its own; they run one after the other."""
    model, draft = context.spec.model, context.spec.draft
    containers = []
    if model.is_downloaded:
        secret = model.secret_ref
        containers.append(_fetch_container(context, FETCH_CONTAINER, model, secret))
    if draft is not None and draft.is_downloaded:
        # Keys of a bucket are no business of a hub, nor a hub's token of a bucket.
        inherited = model.secret_ref if draft.scheme == model.scheme else None
        secret = draft.secret_ref or inherited
        containers.append(_fetch_container(context, FETCH_DRAFT_CONTAINER, draft, secret))
    return containers


def _fetch_container(
    context: PodContext, name: str, source: ModelSource, secret: SecretReference | None
) -> Container:
    mounts: list[VolumeMount] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "models", "mountPath": MODELS_PATH},
    ]
    container = _container(context, name, fetch_arguments(source), mounts)
    if answering := download_progress.ports(context):
        container["ports"] = answering
    container["env"] += download_progress.variables(context)
    container["resources"] = _download_resources(context.spec.resources.download)
    if secret:
        container["envFrom"] = [{"secretRef": {"name": secret.name}}]
    return container


def _container(
    context: PodContext, name: str, arguments: list[str], mounts: list[VolumeMount]
) -> Container:
    return {
        "name": name,
        "image": runtime_image(context.installation.runtime_image, context.spec.runtime),
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


def _probe(path: str, *, period: int, timeout: int, failures: int) -> Probe:
    """Times in seconds."""
    return {
        "httpGet": {"path": path, "port": OPS_PORT_NAME},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _resources(resources: ResourcesSpec) -> ResourceRequirements:
    """Requests and limits. No CPU limit unless asked for: throttling a busy server only makes requests
    late."""
    requests = {
        "cpu": resources.cpu or _default_cpu(resources.cpu_limit),
        "memory": resources.memory or _DEFAULT_MEMORY,
    }
    limits: dict[str, str] = {}
    if resources.cpu_limit:
        limits["cpu"] = resources.cpu_limit
    if resources.memory:
        limits["memory"] = resources.memory
    if resources.ephemeral_storage:
        requests["ephemeral-storage"] = resources.ephemeral_storage
        limits["ephemeral-storage"] = resources.ephemeral_storage
    if resources.gpu:
        # Extended resources cannot be overcommitted: the request must equal the limit.
        limits[resources.gpu_resource] = str(resources.gpu)
        requests[resources.gpu_resource] = str(resources.gpu)
    return {"requests": requests, "limits": limits} if limits else {"requests": requests}


def _default_cpu(limit: str | None) -> str:
    """Never above the limit, which no pod may ask for."""
    if limit is None or parse_quantity(limit) >= parse_quantity(DEFAULT_CPU):
        return DEFAULT_CPU
    return limit


def _download_resources(download: DownloadResourcesSpec | None) -> ResourceRequirements:
    if download is None:
        return {"requests": dict(_DOWNLOAD_REQUESTS)}
    asked = {
        "cpu": download.cpu,
        "memory": download.memory,
        "ephemeral-storage": download.ephemeral_storage,
    }
    limits = {name: quantity for name, quantity in asked.items() if quantity}
    return {"requests": _DOWNLOAD_REQUESTS | limits, "limits": limits}


def _volumes(context: PodContext) -> list[Volume]:
    spec = context.spec
    volumes: list[Volume] = [
        {"name": "tmp", "emptyDir": {}},
        # What is in it counts as the container's memory. NCCL has buffers there for each GPU whose neighbour
        # it cannot write to directly.
        {
            "name": "shm",
            "emptyDir": {
                "medium": "Memory",
                "sizeLimit": f"{max(1, ranks_on_gpus(spec))}Gi",
            },
        },
    ]
    if spec.has_downloads and spec.model.cache:
        kept = (context.cache_key or cache.KEY).name_for(context.name)
        volumes.append({"name": "models", "persistentVolumeClaim": {"claimName": kept}})
    elif spec.has_downloads:
        volumes.append({"name": "models", "emptyDir": {}})
    volumes += [
        {
            "name": _claim_volume(path),
            "persistentVolumeClaim": {"claimName": name, "readOnly": True},
        }
        for name, path in claim_paths(spec).items()
    ]
    return volumes + api_keys.volumes(context)


def _claim_volume(path: str) -> str:
    """The name of the volume that is mounted there."""
    return path.removeprefix("/")


def _needs_one_node(context: PodContext) -> bool:
    if context.is_claim_of_one_node:
        return True
    wanted, spec = context.spec.model.cache, context.spec
    # Stored before it was refused beside a claim alone: nothing is kept in it.
    if wanted is None or (spec.claims and not spec.has_downloads):
        return False
    if context.is_cache_of_one_node is not None:
        return context.is_cache_of_one_node
    return wanted.access_mode is AccessMode.READ_WRITE_ONCE


def _one_node(context: PodContext) -> Affinity:
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
