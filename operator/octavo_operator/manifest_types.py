"""Types of the manifests that Octavo builds: Kubernetes' own field names, for the type checker alone.

A manifest stays the JSON that is hashed and applied; these say which keys it may have and what they
hold, so that a misspelt one fails the type check and not the API server. Only what Octavo sets is
declared. A test compares every class with the official client's model of the same name, so a key that
is misspelt here fails too.
"""

from __future__ import annotations

from typing import Literal, NotRequired, Required, TypedDict


class OwnerReference(TypedDict):
    """Who an object belongs to."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool
    blockOwnerDeletion: bool


class ObjectMeta(TypedDict, total=False):
    """Name, labels and owners of an object, or of the pods of a template."""

    name: str
    namespace: str
    labels: Required[dict[str, str]]
    ownerReferences: list[OwnerReference]
    annotations: dict[str, str]


class LabelSelectorRequirement(TypedDict):
    """A label and the values that it may have."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str]


class LabelSelector(TypedDict, total=False):
    """Selects objects by label; empty, it selects all."""

    matchLabels: dict[str, str]
    matchExpressions: list[LabelSelectorRequirement]


class LocalObjectReference(TypedDict):
    """An object of the same namespace."""

    name: str


# Workloads.


class RollingUpdateDeployment(TypedDict):
    """Counts of pods."""

    maxSurge: int
    maxUnavailable: int


class DeploymentStrategy(TypedDict, total=False):
    """How a Deployment replaces its pods."""

    type: Required[Literal["RollingUpdate", "Recreate"]]
    rollingUpdate: RollingUpdateDeployment


class DeploymentSpec(TypedDict):
    """Pods of one template, in numbers."""

    replicas: int
    revisionHistoryLimit: int
    progressDeadlineSeconds: int
    selector: LabelSelector
    strategy: DeploymentStrategy
    template: PodTemplateSpec
    paused: NotRequired[bool]


# Pods.


class PodTemplateSpec(TypedDict):
    """What pods are made from."""

    metadata: ObjectMeta
    spec: PodSpec


class PodSpec(TypedDict, total=False):
    """One pod."""

    serviceAccountName: str
    automountServiceAccountToken: bool
    enableServiceLinks: bool
    shareProcessNamespace: bool
    securityContext: PodSecurityContext
    terminationGracePeriodSeconds: int
    containers: Required[list[Container]]
    volumes: list[Volume]
    topologySpreadConstraints: list[TopologySpreadConstraint]
    initContainers: list[Container]
    imagePullSecrets: list[LocalObjectReference]
    affinity: Affinity
    nodeSelector: dict[str, str]
    tolerations: list[Toleration]
    runtimeClassName: str
    priorityClassName: str


class SeccompProfile(TypedDict):
    """Which system calls are refused."""

    type: Literal["RuntimeDefault"]


class PodSecurityContext(TypedDict):
    """Who the pod's processes are."""

    runAsNonRoot: bool
    runAsUser: NotRequired[int]
    runAsGroup: NotRequired[int]
    fsGroup: NotRequired[int]
    fsGroupChangePolicy: Literal["OnRootMismatch", "Always"]
    seccompProfile: SeccompProfile


class TopologySpreadConstraint(TypedDict):
    """How far apart pods are placed."""

    maxSkew: int
    topologyKey: str
    whenUnsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"]
    labelSelector: LabelSelector


class PodAffinityTerm(TypedDict):
    """Pods that this one must be near."""

    topologyKey: str
    labelSelector: LabelSelector


class PodAffinity(TypedDict):
    """Pods that this one must be near, as a condition of placing it."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm]


class Affinity(TypedDict):
    """What a pod is drawn to."""

    podAffinity: PodAffinity


class Toleration(TypedDict, total=False):
    """A taint that a pod tolerates."""

    key: str
    operator: str
    value: str
    effect: str
    tolerationSeconds: int


# Containers.


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


# Volumes.


class EmptyDirVolumeSource(TypedDict, total=False):
    """A folder that lives as long as its pod."""

    medium: Literal["", "Memory"]
    sizeLimit: str


class PersistentVolumeClaimVolumeSource(TypedDict, total=False):
    """A claim of the pod's namespace."""

    claimName: Required[str]
    readOnly: bool


class KeyToPath(TypedDict):
    """A key of a Secret and the file that it becomes."""

    key: str
    path: str


class SecretVolumeSource(TypedDict, total=False):
    """The keys of a Secret as files: those of `items`, or all."""

    secretName: Required[str]
    items: list[KeyToPath]
    defaultMode: int


class Volume(TypedDict, total=False):
    """A volume of a pod: a name and one source."""

    name: Required[str]
    emptyDir: EmptyDirVolumeSource
    persistentVolumeClaim: PersistentVolumeClaimVolumeSource
    secret: SecretVolumeSource


class VolumeResourceRequirements(TypedDict):
    """How much a claim asks for."""

    requests: dict[str, str]


class PersistentVolumeClaimSpec(TypedDict, total=False):
    """A volume that is asked for."""

    accessModes: Required[list[str]]
    resources: Required[VolumeResourceRequirements]
    storageClassName: str


# What stands around the pods.


class ServicePort(TypedDict):
    """A port of a Service, and the pods' port behind it by name."""

    name: str
    port: int
    targetPort: str
    protocol: Literal["TCP", "UDP"]
    appProtocol: str


class ServiceSpec(TypedDict):
    """An address for pods."""

    type: str
    selector: dict[str, str]
    ports: list[ServicePort]
    ipFamilyPolicy: NotRequired[str]


class PodDisruptionBudgetSpec(TypedDict):
    """How many pods may be evicted at once."""

    maxUnavailable: int
    unhealthyPodEvictionPolicy: Literal["IfHealthyBudget", "AlwaysAllow"]
    selector: LabelSelector


class NetworkPolicyPort(TypedDict, total=False):
    """A port, or a range of them up to `endPort`."""

    port: Required[int]
    endPort: int
    protocol: Required[Literal["TCP", "UDP"]]


class NetworkPolicyPeer(TypedDict):
    """Pods of the namespaces that are selected."""

    namespaceSelector: LabelSelector


NetworkPolicyIngressRule = TypedDict(
    "NetworkPolicyIngressRule",
    {"from": NotRequired[list[NetworkPolicyPeer]], "ports": list[NetworkPolicyPort]},
)
"""Who may reach which ports; without `from` everybody. Written as a call because that is a keyword."""


class NetworkPolicyEgressRule(TypedDict):
    """Which ports may be reached, anywhere."""

    ports: list[NetworkPolicyPort]


class NetworkPolicySpec(TypedDict):
    """A fence around pods."""

    podSelector: LabelSelector
    policyTypes: list[Literal["Ingress", "Egress"]]
    ingress: list[NetworkPolicyIngressRule]
    egress: list[NetworkPolicyEgressRule]
