"""Service. `spec.service`: how the OpenAI port is reached from outside of the cluster."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from octavo_operator.api.v1alpha1.base import ApiModel, cel_between
from octavo_operator.api.v1alpha1.metadata import UserAnnotations


class ServiceType(StrEnum):
    """Kubernetes' types of a Service that leads to pods."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class IpFamilyPolicy(StrEnum):
    """How many versions of IP a Service has addresses of."""

    SINGLE_STACK = "SingleStack"
    PREFER_DUAL_STACK = "PreferDualStack"
    REQUIRE_DUAL_STACK = "RequireDualStack"


class ServiceSpec(ApiModel):
    """The Service of the OpenAI port."""

    type: ServiceType = Field(
        default=ServiceType.CLUSTER_IP,
        description="NodePort and LoadBalancer lead in from outside of the cluster; they need `auth`, and "
        "the NetworkPolicy admits everybody to the OpenAI port.",
    )
    annotations: UserAnnotations = Field(
        default_factory=dict,
        description="Annotations of the Service, which load balancers and external-dns read.",
    )
    ip_family_policy: IpFamilyPolicy | None = Field(
        default=None,
        description="As in a Service: PreferDualStack has addresses of IPv4 and IPv6 where the cluster has "
        "both. When absent as the Service has it, which is made with the cluster's first one alone.",
    )


NO_OPEN_DOOR_HELP = (
    "NodePort and LoadBalancer lead strangers to the model: set auth, so that they need a key"
)
NO_OPEN_DOOR = cel_between(
    f"!has(self.service) || self.service.type == '{ServiceType.CLUSTER_IP}' || has(self.auth)",
    NO_OPEN_DOOR_HELP,
    "service.type",
)
