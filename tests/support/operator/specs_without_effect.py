"""Specs of which a field does nothing."""

from __future__ import annotations

from typing import Any

WITHOUT_EFFECT: list[tuple[dict[str, Any], str, str, dict[str, Any]]] = [
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
]
"""Specs that were taken once, of which a field did nothing; what the API server says to a new one, the field
and a sentence; and a change that puts it right."""
