"""Specs whose fields do not go together."""

from __future__ import annotations

from typing import Any

_HF = {"uri": "hf://o/n"}
_DRAFT = {"method": "draft_model", "model": {"uri": "builtin://demo"}}
BETWEEN_FIELDS: list[tuple[dict[str, Any], str, str, dict[str, Any]]] = [
    (
        {"engine": {"device": "cpu", "gpuMemoryUtilization": "0.9"}},
        "spec.engine.gpuMemoryUtilization",
        "has no effect on CPUs",
        {"engine": {"gpuMemoryUtilization": None}},
    ),
    (
        {"engine": {"device": "cpu", "enforceEager": True}},
        "spec.engine.enforceEager",
        "has no effect on CPUs",
        {"engine": {"device": None}},
    ),
    (
        {"resources": {"download": {"cpu": "1"}}},
        "spec.resources.download",
        "is for models that are downloaded",
        {"resources": {"download": None}},
    ),
    (
        {"model": {"uri": "builtin://other"}},
        "spec.model.uri",
        "must be builtin://demo",
        {"model": {"uri": "builtin://demo"}},
    ),
    (
        {"engine": {"tensorParallelSize": 3}, "resources": {"gpu": 2}},
        "spec.engine.tensorParallelSize",
        "must be no more than resources.gpu",
        {"resources": {"gpu": 4}},
    ),
    (
        {"engine": {"enableSleepMode": True, "enableLora": True}},
        "spec.engine.enableLora",
        "does not go with enableSleepMode",
        {"engine": {"enableSleepMode": False}},
    ),
    (
        {"engine": {"distributedTimeoutSeconds": 60}},
        "spec.engine.distributedTimeoutSeconds",
        "has no effect where no ranks share the model",
        {"engine": {"distributedTimeoutSeconds": None}},
    ),
    (
        {"engine": {"enableLora": False, "maxLoras": 8}},
        "spec.engine.maxLoras",
        "has no effect without adapters",
        {"engine": {"enableLora": True}},
    ),
    (
        {"engine": {"enableLora": False, "maxLoraRank": 16}},
        "spec.engine.maxLoraRank",
        "has no effect without adapters",
        {"engine": {"maxLoraRank": None}},
    ),
    (
        {"engine": {"maxCpuLoras": 2}},
        "spec.engine.maxCpuLoras",
        "has no effect without adapters",
        {"engine": {"maxCpuLoras": None}},
    ),
    (
        {"engine": {"kvCacheMemory": "2Gi"}, "resources": {"memory": "2Gi"}},
        "spec.engine.kvCacheMemory",
        "must be less than resources.memory",
        {"resources": {"memory": "4Gi"}},
    ),
    (
        {"service": {"type": "LoadBalancer"}},
        "spec.service.type",
        "set auth, so that they need a key",
        {"service": {"type": "ClusterIP"}},
    ),
    (
        {"engine": {"maxNumSeqs": 512, "maxNumBatchedTokens": 256}},
        "spec.engine.maxNumBatchedTokens",
        "must not be smaller than maxNumSeqs",
        {"engine": {"maxNumBatchedTokens": 512}},
    ),
    (
        {"engine": {"quantization": "int4", "dtype": "float16"}},
        "spec.engine.dtype",
        "must be auto, bfloat16 or float32",
        {"engine": {"dtype": "bfloat16"}},
    ),
    (
        {"engine": {"quantization": "awq", "dtype": "float16", "device": "cpu"}},
        "spec.engine.dtype",
        "must be auto, bfloat16 or float32",
        {"engine": {"device": "cuda"}},
    ),
    (
        {"engine": {"loadFormat": "dummy", "quantization": "awq"}},
        "spec.engine.loadFormat",
        "must be auto or safetensors with a quantization that checkpoints alone have",
        {"engine": {"quantization": "fp8"}},
    ),
    (
        {"engine": {"speculative": {"method": "draft_model"}}},
        "spec.engine.speculative.model",
        "is needed for the methods draft_model and eagle3",
        {"engine": {"speculative": {"method": "ngram"}}},
    ),
    (
        {"engine": {"speculative": {"method": "ngram", "model": {"uri": "hf://o/d"}}}},
        "spec.engine.speculative.model",
        "has no effect with ngram",
        {"engine": {"speculative": {"model": None}}},
    ),
    (
        {"engine": {"speculative": {"method": "eagle3", "model": {"uri": "builtin://demo"}}}},
        "spec.engine.speculative.model",
        "the runtime image holds no head",
        {"engine": {"speculative": {"model": {"uri": "pvc://heads/a"}}}},
    ),
    (
        {"engine": {"speculative": {**_DRAFT, "promptLookupMax": 3}}},
        "spec.engine.speculative.promptLookupMax",
        "is for method ngram",
        {"engine": {"speculative": {"promptLookupMax": None}}},
    ),
    (
        {
            "engine": {
                "speculative": {
                    "method": "draft_model",
                    "model": {"uri": "pvc://c", "secretRef": {"name": "x"}},
                }
            }
        },
        "spec.engine.speculative.model.secretRef",
        "is for models that are downloaded",
        {"engine": {"speculative": {"model": {"uri": "s3://b/d"}}}},
    ),
    (
        {
            "engine": {
                "speculative": {"method": "eagle3", "model": {"uri": "hf://o/h"}},
                "modelImpl": "transformers",
            }
        },
        "spec.engine.modelImpl",
        "must be auto or octavo with method eagle3",
        {"engine": {"modelImpl": None}},
    ),
    (
        {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
        "spec.autoscaling.maxReplicas",
        "maxReplicas must not be smaller than minReplicas",
        {"autoscaling": {"maxReplicas": 3}},
    ),
    (
        {"model": {"uri": "builtin://demo", "cache": {"size": "5Gi"}}},
        "spec.model.cache",
        "is for models that are downloaded",
        {"model": _HF},
    ),
    (
        {"model": {"uri": "pvc://claim", "secretRef": {"name": "x"}}},
        "spec.model.secretRef",
        "is for models that are downloaded",
        {"model": _HF},
    ),
    (
        {"resources": {"cpu": "2", "cpuLimit": "1"}},
        "spec.resources.cpuLimit",
        "must not be smaller than cpu",
        {"resources": {"cpuLimit": "2"}},
    ),
    (
        {"rollout": {"drainTimeout": "25h"}},
        "spec.rollout.drainTimeout",
        "at most 24h",
        {"rollout": {"drainTimeout": "24h"}},
    ),
    (
        {"rollout": {"progressDeadline": "0s"}},
        "spec.rollout.progressDeadline",
        "from 30s to 24h",
        {"rollout": {"progressDeadline": "30s"}},
    ),
    (
        {"runtime": {"version": "1", "image": "ghcr.io/o/r:1"}},
        "spec.runtime",
        "must not have both version and image",
        {"runtime": {"image": None}},
    ),
    (
        {"auth": {"secretRef": {"name": "a"}, "keysFrom": {"secretRef": {"name": "b"}}}},
        "spec.auth",
        "must have either secretRef or keysFrom",
        {"auth": {"keysFrom": None}},
    ),
    (
        {"scheduling": {"tolerations": [{"operator": "Exists", "value": "x"}]}},
        "spec.scheduling.tolerations[0].value",
        "must be empty when operator is Exists",
        {"scheduling": {"tolerations": []}},
    ),
]
"""Specs that a release before the rule took; what the API server says to a new one, the field and a sentence;
and a change that puts it right."""
