"""Requirements of tests that not every machine meets: Triton, Numba, helm, an API server, Lua, Chromium.

Where one is lacking its tests are skipped. `OCTAVO_REQUIRE` names what a machine says that it has, with
commas between: there the lack is a failure, so that no run in CI is green because nothing ran. Whatever a
test skips for one of these is skipped here; the linter refuses `pytest.importorskip`.
"""

from __future__ import annotations

import importlib
import os
from enum import StrEnum
from typing import NoReturn

import pytest


class Requirement(StrEnum):
    """As `OCTAVO_REQUIRE` names them."""

    TRITON = "triton"
    NUMBA = "numba"
    HELM = "helm"
    API_SERVER = "apiserver"
    COMPRESSED_TENSORS = "compressed_tensors"
    GPTQMODEL = "gptqmodel"
    SENTENCE_TRANSFORMERS = "sentence_transformers"
    LUPA = "lupa"
    CHROMIUM = "chromium"
    JSON_SCHEMA_SUITE = "json_schema_suite"


def declared() -> frozenset[Requirement]:
    """What this machine says that it has.

    Raises:
        pytest.UsageError: It names something that no test asks for.
    """
    words = [word.strip() for word in os.environ.get("OCTAVO_REQUIRE", "").split(",")]
    known = {requirement.value for requirement in Requirement}
    if unknown := sorted({word for word in words if word} - known):
        raise pytest.UsageError(
            f"OCTAVO_REQUIRE names {', '.join(unknown)}; tests ask for {', '.join(sorted(known))}."
        )
    return frozenset(Requirement(word) for word in words if word)


def lacks(requirement: Requirement, reason: str) -> NoReturn:
    """Skips the module, fixture or test that calls it, or fails it where the machine says that it has it."""
    if requirement in declared():
        pytest.fail(f"{reason}, and OCTAVO_REQUIRE names {requirement}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def needs_module(requirement: Requirement) -> None:
    """For what is imported; called before the imports that need it."""
    try:
        importlib.import_module(requirement)
    except ImportError as error:
        lacks(requirement, f"{requirement} cannot be imported ({error})")
