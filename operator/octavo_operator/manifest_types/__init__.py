"""Types of the manifests that Octavo builds: Kubernetes' own field names, for the type checker alone.

A manifest stays the JSON that is hashed and applied; these say which keys it may have and what they
hold, so that a misspelt one fails the type check and not the API server. Only what Octavo sets is
declared. A test compares every class with the official client's model of the same name, so a key that
is misspelt here fails too.
"""

from octavo_operator.manifest_types.containers import (
    Capabilities,
    Container,
    ContainerPort,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    HTTPGetAction,
    Probe,
    ResourceFieldSelector,
    ResourceRequirements,
    SecretEnvSource,
    SecretKeySelector,
    SecurityContext,
    VolumeMount,
)
from octavo_operator.manifest_types.meta import (
    LabelSelector,
    LabelSelectorRequirement,
    LocalObjectReference,
    ObjectMeta,
    OwnerReference,
)
from octavo_operator.manifest_types.pods import (
    Affinity,
    PodAffinity,
    PodAffinityTerm,
    PodSecurityContext,
    PodSpec,
    PodTemplateSpec,
    SeccompProfile,
    Toleration,
    TopologySpreadConstraint,
)
from octavo_operator.manifest_types.surroundings import (
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
    PodDisruptionBudgetSpec,
    ServicePort,
    ServiceSpec,
)
from octavo_operator.manifest_types.volumes import (
    EmptyDirVolumeSource,
    KeyToPath,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource,
    SecretVolumeSource,
    Volume,
    VolumeResourceRequirements,
)
from octavo_operator.manifest_types.workloads import (
    DeploymentSpec,
    DeploymentStrategy,
    RollingUpdateDeployment,
)

__all__ = [
    "Affinity",
    "Capabilities",
    "Container",
    "ContainerPort",
    "DeploymentSpec",
    "DeploymentStrategy",
    "EmptyDirVolumeSource",
    "EnvFromSource",
    "EnvVar",
    "EnvVarSource",
    "HTTPGetAction",
    "KeyToPath",
    "LabelSelector",
    "LabelSelectorRequirement",
    "LocalObjectReference",
    "NetworkPolicyEgressRule",
    "NetworkPolicyIngressRule",
    "NetworkPolicyPeer",
    "NetworkPolicyPort",
    "NetworkPolicySpec",
    "ObjectMeta",
    "OwnerReference",
    "PersistentVolumeClaimSpec",
    "PersistentVolumeClaimVolumeSource",
    "PodAffinity",
    "PodAffinityTerm",
    "PodDisruptionBudgetSpec",
    "PodSecurityContext",
    "PodSpec",
    "PodTemplateSpec",
    "Probe",
    "ResourceFieldSelector",
    "ResourceRequirements",
    "RollingUpdateDeployment",
    "SeccompProfile",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretVolumeSource",
    "SecurityContext",
    "ServicePort",
    "ServiceSpec",
    "Toleration",
    "TopologySpreadConstraint",
    "Volume",
    "VolumeMount",
    "VolumeResourceRequirements",
]
