"""Operator's settings, from `OCTAVO_OPERATOR_…` environment variables.

They belong to whoever installs the operator. Nothing here can be set from a custom resource: where runtime
images come from, Prometheus' address and the fences around the pods are not the tenant's to choose.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from octavo_operator.names import USER_ID

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class PullPolicy(StrEnum):
    """Kubernetes' image pull policies."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LogLevel(StrEnum):
    """Least level that is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


CommaSeparated = Annotated[tuple[str, ...], NoDecode]
"""A list in one environment variable: `a,b`."""

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """All settings with their defaults; `RUNTIME_IMAGE` alone must be given."""

    model_config = SettingsConfigDict(env_prefix="OCTAVO_OPERATOR_", frozen=True, extra="ignore")

    runtime_image: str = Field(
        default="", min_length=1, validate_default=True, description="Runs `octavo serve`."
    )
    allowed_runtime_images: CommaSeparated = Field(
        default=(),
        description="Repositories that spec.runtime.image may name; with a slash at its end all below it.",
    )
    runtime_user: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        default=USER_ID,
        description="User and group of the pods; empty: the cluster chooses them, as OpenShift does.",
    )
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    image_pull_secrets: CommaSeparated = Field(
        default=(), description="Names of pull secrets that exist in the users' namespaces."
    )
    prometheus_url: str = Field(
        default="", description="Base URL; empty: autoscaling reports PrometheusNotConfigured."
    )
    prometheus_bearer_token_file: str = Field(
        default="", description="Token that Prometheus wants, read anew for each question."
    )
    prometheus_ca_file: str = Field(
        default="", description="Authority of Prometheus' certificate; empty: the system's."
    )
    prometheus_tenant: Annotated[str, Field(pattern=r"^[!-~]*$")] = Field(
        default="", description="Sent as X-Scope-OrgID."
    )
    prometheus_timeout_seconds: float = Field(default=5.0, gt=0)
    metrics_max_age_seconds: float = Field(
        default=60.0, gt=0, description="An older sample counts as missing."
    )
    max_concurrent_rollouts: int = Field(
        default=0,
        ge=0,
        description="Models that an upgrade of the operator starts anew at once; 0: all of them.",
    )
    autoscale_interval_seconds: float = Field(default=5.0, gt=0)
    progress_interval_seconds: float = Field(
        default=10.0,
        ge=0,
        description="How often pods that start are asked how far they have come; 0: never.",
    )
    progress_timeout_seconds: float = Field(default=2.0, gt=0)
    watch_namespaces: CommaSeparated = Field(default=(), description="Empty: all namespaces.")
    monitoring_namespaces: CommaSeparated = Field(
        default=("monitoring",), description="Namespaces that may reach the ops port."
    )
    download_ports: Annotated[tuple[Port, ...], NoDecode] = Field(
        default=(443,), min_length=1, description="TCP ports that hf:// downloads may reach."
    )
    namespace: str = Field(default="", description="The operator's own; empty: ask the pod.")
    identity: str = Field(default="", description="Holder of the Lease; empty: the host name.")
    pod_uid: str = Field(
        default="",
        description="Uid of the pod `identity`: the Lease goes with it. Empty: it stays.",
    )
    leader_election: bool = True
    lease_name: str = Field(
        default="octavo-operator",
        min_length=1,
        description="Operators that share it take turns: one name per release.",
    )
    lease_duration_seconds: int = Field(
        default=15, ge=2, description="A leader that crashed or froze is replaced after this time."
    )
    health_port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=8, ge=1, description="Objects that are reconciled at once.")
    resync_seconds: float = Field(default=300.0, gt=0)
    request_timeout_seconds: float = Field(default=15.0, gt=0)
    log_level: LogLevel = LogLevel.INFO
    log_format: Annotated[str, Field(pattern="^(json|console)$")] = "json"

    @field_validator(
        "watch_namespaces",
        "monitoring_namespaces",
        "image_pull_secrets",
        "allowed_runtime_images",
        "download_ports",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("runtime_user", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def own_namespace(self) -> str:
        """The namespace of the operator's Lease: as set, else the pod's, else `default`."""
        if self.namespace:
            return self.namespace
        if _NAMESPACE_FILE.is_file():
            return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        return "default"
