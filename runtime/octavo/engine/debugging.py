"""Debugging. `OCTAVO_DEBUG=1`: whoever starts an engine lets it check its own accounts whenever it gets
idle."""

from __future__ import annotations

from collections.abc import Mapping


def is_debugging(environment: Mapping[str, str]) -> bool:
    """Whether `OCTAVO_DEBUG` asks for it; the process's rim reads it once and passes the answer on."""
    return environment.get("OCTAVO_DEBUG", "") not in ("", "0")
