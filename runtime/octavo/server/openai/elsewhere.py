"""Elsewhere. Where a client finds what it looked for at a path that is not there. Routes that the model would
refuse are not named."""

from __future__ import annotations

from collections.abc import Callable, Collection

_ON_OPS_PORT = {
    **dict.fromkeys(("/metrics", "/livez", "/readyz", "/startupz"), "Metrics and probes are"),
    **dict.fromkeys(("/sleep", "/wake_up", "/is_sleeping"), "Sleep is"),
    **dict.fromkeys(("/v1/load_lora_adapter", "/v1/unload_lora_adapter"), "Adapters' routes are"),
}
_RESPONSES = "/v1/responses"


def elsewhere(path: str, known: Collection[str], refuses: Callable[[str], bool]) -> str:
    """A sentence behind a space, or nothing.

    Args:
        known: The routes that are there.
        refuses: Whether the model refuses a route whatever it is asked.
    """
    if path in _ON_OPS_PORT:
        return f" {_ON_OPS_PORT[path]} on the ops port (--ops-port)."
    if (missing := f"/v1{path}") in known:
        return _use(missing, "ends with /v1", refuses)
    if path.startswith("/v1/v1/") and (doubled := path.removeprefix("/v1")) in known:
        return _use(doubled, "does without /v1", refuses)
    if path.startswith(f"{_RESPONSES}/"):
        instead = "" if refuses(_RESPONSES) else f"; POST {_RESPONSES} makes one"
        return f" Answers are not kept{instead}."
    return ""


def _use(path: str, base_url: str, refuses: Callable[[str], bool]) -> str:
    why = f"client's base URL {base_url}."
    return f" This {why}" if refuses(path) else f" Use {path}: a {why}"
