"""RBAC rules. What the operator may do in a cluster, in one place: the code, the chart and the documentation
agree.

A test compares this table with the calls that the operator really makes against an API server, and
the chart's ClusterRole with this table. There is no verb on Secrets: pods refer to them by name, and
the kubelet reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo_operator.workload import WORKLOADS


@dataclass(frozen=True, slots=True)
class Rule:
    """One RBAC rule; `why` is printed in the reference."""

    api_group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str


_CHILD_VERBS = ("get", "list", "watch", "create", "patch", "delete")

NAMESPACED_RULES: tuple[Rule, ...] = (
    Rule("octavo.dev", ("llmdeployments",), ("get", "list", "watch"), "read what users ask for"),
    Rule("octavo.dev", ("llmdeployments/status",), ("patch",), "report the status"),
    Rule(
        "octavo.dev",
        ("llmdeployments/finalizers",),
        ("update",),
        "own children where OwnerReferencesPermissionEnforcement is on",
    ),
    *(
        Rule(each.key.kind.group, (each.key.kind.plural,), _CHILD_VERBS, "run the pods")
        for each in WORKLOADS
    ),
    *(
        Rule(
            each.makers.group,
            (each.makers.plural,),
            ("list",),
            "say why no pod may be made, while one is refused",
        )
        for each in WORKLOADS
    ),
    Rule(
        "",
        ("services", "serviceaccounts", "persistentvolumeclaims"),
        _CHILD_VERBS,
        "address, identity without a token, model cache",
    ),
    Rule("policy", ("poddisruptionbudgets",), _CHILD_VERBS, "keep replicas up while nodes drain"),
    Rule("networking.k8s.io", ("networkpolicies",), _CHILD_VERBS, "fence the pods"),
    Rule("", ("pods",), ("list", "watch"), "say why a pod does not start"),
    Rule(
        "discovery.k8s.io",
        ("endpointslices",),
        ("get", "list", "watch"),
        "see whether the Service leads to the pods, and to them alone",
    ),
    Rule(
        "",
        ("events",),
        ("list", "create", "update"),
        "tell what changed, what comes again is counted; say why no pod may be made now, while one is "
        "refused",
    ),
)
"""Needed in every namespace that the operator watches (a ClusterRole when it watches all)."""

OWN_NAMESPACE_RULES: tuple[Rule, ...] = (
    Rule(
        "coordination.k8s.io",
        ("leases",),
        ("get", "create", "update", "delete"),
        "one of several replicas acts; delete is asked for where OwnerReferencesPermissionEnforcement "
        "is on, as the Lease belongs to the pod that holds it",
    ),
)
"""Needed in the operator's own namespace alone (a Role)."""
