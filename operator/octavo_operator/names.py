"""Labels, annotations, ports and container names: what the operator, its children and the pods agree on.

A leaf: everything may import it, and it imports nothing. A change of any of these names is a change of
the pods that run, so none is made lightly.
"""

from __future__ import annotations

OWNER_LABEL = "octavo.dev/llmdeployment"
REVISION_LABEL = "octavo.dev/revision"
HASH_ANNOTATION = "octavo.dev/manifest-hash"

SERVE_CONTAINER = "octavo"
FETCH_CONTAINER = "fetch"
FETCH_DRAFT_CONTAINER = "fetch-draft"
STARTING_CONTAINERS = (FETCH_CONTAINER, FETCH_DRAFT_CONTAINER, SERVE_CONTAINER)
"""In the order in which they run; only the last is in every pod."""

MODELS_PATH = "/models"
"""Where downloads lie."""
CLAIM_PATH = "/claim"
"""Where the claim of a model's `pvc://` is mounted; that of a draft, where it is another one, below."""
DRAFT_CLAIM_PATH = "/draft-claim"

HTTP_PORT = 8000
OPS_PORT = 8001
HTTP_PORT_NAME = "http"
OPS_PORT_NAME = "ops"
FETCH_PORT_NAME = "fetch-ops"
"""The ops port while the model is downloaded, where pods of an earlier release declare it. A name of its own:
what is scraped by the name of the other one would be scraped twice."""

USER_ID = 65532
"""Whom the pods run as, user and group, where nobody says another."""


def selector(name: str) -> dict[str, str]:
    """The labels that select the pods of an LLMDeployment."""
    return {OWNER_LABEL: name}


def labels(name: str) -> dict[str, str]:
    """The labels of every child. They hold no version: an operator upgrade must not roll pods."""
    return {
        "app.kubernetes.io/name": "octavo",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/managed-by": "octavo-operator",
        "app.kubernetes.io/part-of": "octavo",
        OWNER_LABEL: name,
    }
