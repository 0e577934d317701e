"""Condition types and every reason they may carry, each with what it means and what to do.

This is the one place where a reason is declared. The reference page is generated from it, and
`status.py` alone sets them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ConditionType(StrEnum):
    """The conditions of an LLMDeployment: five that are always present, and two of kstatus's, of which one
    is there while it is true."""

    READY = "Ready"
    MODEL_AVAILABLE = "ModelAvailable"
    PROGRESSING = "Progressing"
    AUTOSCALING = "Autoscaling"
    DEGRADED = "Degraded"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    """Kubernetes' three values."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


CONDITION_MEANINGS: dict[ConditionType, str] = {
    ConditionType.READY: (
        "True: at least as many pods of the current revision answer as the spec asks for "
        "(`replicas`, or `autoscaling.minReplicas`), and the Service of `status.url` leads to them. "
        "Unknown: no pass of the operator came through this spec (`ReconcileFailed`)."
    ),
    ConditionType.MODEL_AVAILABLE: (
        "True: a pod of the current revision has loaded the model. Unknown: none has finished "
        "trying. False: the model cannot be loaded as it is specified."
    ),
    ConditionType.PROGRESSING: (
        "True: the operator and Kubernetes are still moving pods. False: they are done, or stuck."
    ),
    ConditionType.AUTOSCALING: "True: the replica count follows the queue.",
    ConditionType.DEGRADED: "True: something needs a person; the message says what.",
    ConditionType.RECONCILING: (
        "There while it is not Ready and on its way; absent otherwise. For Flux, Helm and others that "
        "wait by kstatus."
    ),
    ConditionType.STALLED: (
        "There while it is not Ready and will not be without a person: the spec or the model is wrong, "
        "a name is taken, or the deadline has passed; absent otherwise."
    ),
}


class Reason(StrEnum):
    """Every reason; its value is what `kubectl` prints.

    Each member carries `meaning`, `set_by` (whose observation it is) and `action` (what the user
    does about it).
    """

    meaning: str
    set_by: str
    action: str

    def __new__(cls, value: str, meaning: str, set_by: str, action: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.set_by = set_by
        member.action = action
        return member

    # The good ones.
    SERVING = (
        "Serving",
        "Enough pods of the current revision answer.",
        "operator, from the pods' readiness",
        "Nothing.",
    )
    MODEL_LOADED = (
        "ModelLoaded",
        "A pod of the current revision has loaded the model.",
        "operator, from the pods' readiness",
        "Nothing.",
    )
    SETTLED = (
        "Settled",
        "All pods are of the current revision, and there are as many as wanted.",
        "operator",
        "Nothing.",
    )
    AS_EXPECTED = ("AsExpected", "Nothing needs attention.", "operator", "Nothing.")
    AUTOSCALING_ACTIVE = (
        "Active",
        "The replica count follows the queue depth.",
        "operator",
        "Nothing.",
    )
    AUTOSCALING_DISABLED = (
        "Disabled",
        "The spec has no `autoscaling`; `spec.replicas` holds.",
        "operator",
        "Nothing, or add `spec.autoscaling`.",
    )

    # On the way.
    STARTING = (
        "Starting",
        "The pods are being scheduled, download the model or load it; none answers yet.",
        "operator, from the pods",
        "Wait; the message names the phase. `rollout.progressDeadline` bounds it.",
    )
    ROLLING_OUT = (
        "RollingOut",
        "New pods, most often of a new revision, replace the old ones, which go on serving meanwhile.",
        "operator",
        "Wait.",
    )
    ROLLOUT_QUEUED = (
        "RolloutQueued",
        "An upgrade of the operator changed the pods, and other models have their turn first.",
        "operator",
        "Wait, or raise `maxConcurrentRollouts`. A change of the spec has its rollout at once.",
    )
    SCALING_UP = ("ScalingUp", "Pods are being added.", "operator", "Wait.")
    SCALING_DOWN = (
        "ScalingDown",
        "More replicas than wanted. Pods that leave finish requests (up to `rollout.drainTimeout`).",
        "operator",
        "Wait.",
    )
    SCALED_TO_ZERO = (
        "ScaledToZero",
        "`spec.replicas` is 0, so nothing answers.",
        "operator",
        "Set `spec.replicas`.",
    )

    # The user's specification.
    INVALID_SPEC = (
        "InvalidSpec",
        "The operator cannot read the spec, which the API server's schema let through.",
        "operator",
        "Correct the field that the message names; check that CRD and operator are of one version.",
    )
    IMAGE_NOT_ALLOWED = (
        "ImageNotAllowed",
        "`spec.runtime.image` is of a repository that the installation does not allow; what ran goes on.",
        "operator",
        "Use `spec.runtime.version`, or have the repository added to `runtime.allowedImages`.",
    )
    NAME_CONFLICT = (
        "NameConflict",
        "An object with this name exists and does not belong to this LLMDeployment.",
        "operator",
        "Choose another `metadata.name`, or remove the object that the message names.",
    )
    APPLY_FAILED = (
        "ApplyFailed",
        "The API server refused one of the children; the operator tries again.",
        "operator, from the API server's answer",
        "Read the message: a quota, a policy or an admission webhook of the cluster stands behind.",
    )
    RECONCILE_FAILED = (
        "ReconcileFailed",
        "Passes over the object fail; the other conditions are what the last one that did not fail saw.",
        "operator",
        "Read the message: it has the API server's answer, or says where the operator's log is.",
    )
    CONTESTED = (
        "Contested",
        "Something else undoes a child again and again; the operator repairs it less and less often.",
        "operator",
        "Find the writer, which the message names: an operator, autoscaler, restoring tool or webhook.",
    )
    ENDPOINTS_MISMATCH = (
        "EndpointsMismatch",
        "The Service's endpoints are not the pods that answer: some are missing, or others get requests.",
        "operator, from the EndpointSlices",
        "Look at `kubectl get endpointslices -l kubernetes.io/service-name=NAME`; remove what is foreign.",
    )
    STRAY_PODS = (
        "StrayPods",
        "Pods carry the label of this LLMDeployment and were not made for it.",
        "operator, from the pods' owners",
        "Take the label `octavo.dev/llmdeployment` from the pods that the message names, or delete them.",
    )
    MODEL_COMMITS_DIFFER = (
        "ModelCommitsDiffer",
        "Replicas serve different models of one `model.uri`: its branch moved, or its files were replaced.",
        "runtime",
        "Name a commit in `model.uri` (`hf://org/name@COMMIT`), or give each model a place of its own.",
    )
    ADAPTERS_DIFFER = (
        "AdaptersDiffer",
        "Replicas have different LoRA adapters: they were loaded into some pods alone, or went with one.",
        "runtime",
        "Load them by each pod's ops port, or have all pods begin with them (`extraArgs`: `--lora-modules`).",
    )
    CACHE_IMMUTABLE = (
        "CacheImmutable",
        "The spec asks for another storage class or access mode than the model cache's volume has, or less.",
        "operator, from the claim",
        "Take `model.cache` away and add it again, which downloads anew; or ask for what the volume has.",
    )
    CACHE_RESIZE_FAILED = (
        "CacheResizeFailed",
        "The model cache's volume does not grow to `model.cache.size`; the pods go on with what it has.",
        "storage driver, from the claim's status, or the API server",
        "Ask for a size that the driver can give, as the message says, or for what the volume has.",
    )
    CHILD_TERMINATING = (
        "ChildTerminating",
        "A child that the spec asks for is being deleted; another one is made when it is gone.",
        "operator",
        "Wait; a claim goes when no pod mounts it any more, so delete the pods that do.",
    )
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "A Secret that the spec names, or a key in it, does not exist in the namespace.",
        "kubelet, or the operator from its PodReadyToStartContainers",
        "Create the Secret, with the key that the message names; if it has it, the pod's Events tell more.",
    )

    # The cluster.
    IMAGE_PULL_FAILED = (
        "ImagePullFailed",
        "A node cannot pull the runtime image.",
        "kubelet",
        "Check `spec.runtime` or the installation's runtime image, the registry and its credentials.",
    )
    CONTAINER_CONFIG_INVALID = (
        "ContainerConfigInvalid",
        "The kubelet cannot create the container.",
        "kubelet",
        "Read the message; check the Secrets and volumes that the spec names.",
    )
    INSUFFICIENT_GPU = (
        "InsufficientGpu",
        "No node has enough free GPUs (`resources.gpu` of `resources.gpuResource`).",
        "kube-scheduler, or nodes that refuse the pods",
        "Add nodes, ask for fewer GPUs, or choose `rollout.strategy: Recreate` if a rollout waits.",
    )
    VOLUME_UNAVAILABLE = (
        "VolumeUnavailable",
        "The model cache or the claim of `pvc://` does not exist, is not bound or cannot be mounted.",
        "kube-scheduler, or the operator from the kubelet's PodReadyToStartContainers",
        "Check the claim, its storage class, its access mode; the pod's Events tell a failed mount.",
    )
    SANDBOX_UNAVAILABLE = (
        "SandboxUnavailable",
        "A node has had a pod for some time and cannot give it network, runtime class or volumes.",
        "operator, from the kubelet's PodReadyToStartContainers",
        "Read the pod's Events (`kubectl describe pod`); check `scheduling.runtimeClassName`.",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node fits the pod.",
        "kube-scheduler, or nodes that refuse the pods",
        "Compare `resources` and `scheduling` with the nodes; the message counts them.",
    )
    QUOTA_EXCEEDED = (
        "QuotaExceeded",
        "A ResourceQuota of the namespace does not allow another pod.",
        "kube-controller-manager, from the API server's answer",
        "Raise the quota or lower `replicas` or `resources`.",
    )
    PODS_FORBIDDEN = (
        "PodsForbidden",
        "The API server refuses the pods (Pod Security, an admission webhook, a LimitRange).",
        "kube-controller-manager, from the API server's answer",
        "Read the message: the latest refusal, or the first, if it says so.",
    )
    REPLICAS_UNAVAILABLE = (
        "ReplicasUnavailable",
        "Fewer pods answer than wanted, though nothing is being changed.",
        "operator, from the pods' readiness",
        "Look at the pods: a node may be lost, or a pod may be restarting.",
    )
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "The rollout made no progress for `rollout.progressDeadline`; the pods go on trying.",
        "kube-controller-manager",
        "See `Degraded` for the cause; raise the deadline for models that load longer.",
    )
    CRASHING = (
        "Crashing",
        "The container ends again and again without saying why.",
        "kubelet",
        "Read the log: `kubectl logs --previous`.",
    )

    # What the runtime writes into its termination log.
    MODEL_NOT_FOUND = (
        "ModelNotFound",
        "`model.uri`, or that of a draft, names a model that does not exist or may not be read.",
        "runtime",
        "Correct `model.uri` or `model.secretRef`, or those of `engine.speculative.model`.",
    )
    MODEL_INVALID = (
        "ModelInvalid",
        "The model's files are damaged, incomplete or not safetensors.",
        "runtime",
        "Repair the model's files.",
    )
    MODEL_UNSUPPORTED = (
        "ModelUnsupported",
        "The model's architecture is not one that Octavo runs.",
        "runtime",
        "Choose another model: the message lists the architectures that are supported.",
    )
    DOWNLOAD_FAILED = (
        "DownloadFailed",
        "The model, or its draft model, could not be downloaded; the pod tries again.",
        "runtime",
        "Check the network, the hub and the proxy; its port must be in `runtime.downloadPorts`.",
    )
    OUT_OF_MEMORY = (
        "OutOfMemory",
        "The model, its KV cache or the process does not fit the memory.",
        "runtime, or the kubelet (OOMKilled)",
        "Lower `engine.maxModelLen` as the message says, or give more `resources`.",
    )
    INVALID_CONFIGURATION = (
        "InvalidConfiguration",
        "`octavo serve` refuses a value of `spec.engine`, or a flag of `spec.extraArgs`.",
        "runtime",
        "Correct the field or the flag that the message names.",
    )
    INTERNAL_ERROR = (
        "InternalError",
        "The runtime failed; the fault is ours.",
        "runtime",
        "Report it with the log: `kubectl logs --previous`.",
    )

    # Autoscaling.
    PROMETHEUS_NOT_CONFIGURED = (
        "PrometheusNotConfigured",
        "The operator was installed without `prometheus.url`; the replica count holds.",
        "operator",
        "Install the chart with `prometheus.url`, or use `spec.replicas`.",
    )
    METRICS_UNAVAILABLE = (
        "MetricsUnavailable",
        "Prometheus does not answer or has no fresh samples of the pods; the replica count holds.",
        "operator",
        "Check that Prometheus runs and scrapes the pods' port 8001.",
    )


RUNTIME_REASONS: frozenset[Reason] = frozenset(
    {
        Reason.MODEL_NOT_FOUND,
        Reason.MODEL_INVALID,
        Reason.MODEL_UNSUPPORTED,
        Reason.DOWNLOAD_FAILED,
        Reason.OUT_OF_MEMORY,
        Reason.INVALID_CONFIGURATION,
        Reason.INTERNAL_ERROR,
    }
)
"""What `{"reason": …}` in a termination message may say (the pod contract)."""

MODEL_REASONS: frozenset[Reason] = RUNTIME_REASONS - {Reason.INTERNAL_ERROR}
"""Reasons that make ModelAvailable False: the model will not load as it is specified."""
