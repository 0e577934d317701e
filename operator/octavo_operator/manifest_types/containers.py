"""Containers of a pod: what they run, see and answer."""

from __future__ import annotations

from typing import Literal, Required, TypedDict


class Container(TypedDict, total=False):
    """One container of a pod."""

    name: Required[str]
    image: Required[str]
    imagePullPolicy: str
    command: list[str]
    args: list[str]
    env: list[EnvVar]
    envFrom: list[EnvFromSource]
    volumeMounts: list[VolumeMount]
    terminationMessagePolicy: Literal["File", "FallbackToLogsOnError"]
    securityContext: SecurityContext
    ports: list[ContainerPort]
    resources: ResourceRequirements
    startupProbe: Probe
    readinessProbe: Probe
    livenessProbe: Probe


class ContainerPort(TypedDict):
    """A port that a container listens on."""

    name: str
    containerPort: int
    protocol: Literal["TCP", "UDP"]


class EnvVar(TypedDict, total=False):
    """One variable of a container's environment."""

    name: Required[str]
    value: str
    valueFrom: EnvVarSource


class EnvVarSource(TypedDict, total=False):
    """Where a variable's value comes from: one of these."""

    resourceFieldRef: ResourceFieldSelector
    secretKeyRef: SecretKeySelector


class ResourceFieldSelector(TypedDict):
    """A request or limit of the container itself."""

    resource: str
    divisor: str


class SecretKeySelector(TypedDict):
    """One key of a Secret."""

    name: str
    key: str


class SecretEnvSource(TypedDict):
    """All keys of a Secret."""

    name: str


class EnvFromSource(TypedDict):
    """Variables from the keys of an object."""

    secretRef: SecretEnvSource


class VolumeMount(TypedDict, total=False):
    """Where a container sees a volume of its pod."""

    name: Required[str]
    mountPath: Required[str]
    readOnly: bool


class ResourceRequirements(TypedDict, total=False):
    """Quantities by resource."""

    requests: dict[str, str]
    limits: dict[str, str]


class Capabilities(TypedDict):
    """Capabilities that a container's processes lose."""

    drop: list[str]


class SecurityContext(TypedDict):
    """What a container's processes may do."""

    allowPrivilegeEscalation: bool
    readOnlyRootFilesystem: bool
    capabilities: Capabilities


class HTTPGetAction(TypedDict):
    """A GET that must be answered with success; the port by its name."""

    path: str
    port: str


class Probe(TypedDict):
    """A question that the kubelet asks again and again."""

    httpGet: HTTPGetAction
    periodSeconds: int
    timeoutSeconds: int
    failureThreshold: int
