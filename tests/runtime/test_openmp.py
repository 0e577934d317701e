"""Threads that wait for others spin briefly, in every process that runs a model."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from octavo.openmp import brief_spinning, spin_variables

# GNU OpenMP tells what it read when it is loaded; the environment must be what it was.
_LLM = """
import contextlib
import os
before = dict(os.environ)
from octavo import LLM
LLM("builtin://demo", device="cpu", max_num_seqs=1)
assert dict(os.environ) == before
"""


def spin_count(program: str) -> int:
    """What OpenMP says of itself to standard error, as hexadecimal number."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    return int(line.split("'")[1], 0)


def test_a_model_in_this_process_spins_briefly() -> None:
    assert spin_count(_LLM) == 4000


@pytest.mark.parametrize(
    ("environment", "added"),
    [
        ({}, {"GOMP_SPINCOUNT": "4000"}),
        ({"GOMP_SPINCOUNT": "0"}, {}),
        ({"GOMP_SPINCOUNT": "7"}, {}),
        ({"OMP_WAIT_POLICY": "active"}, {}),
    ],
)
def test_what_the_user_said_of_waiting_holds(
    environment: dict[str, str], added: dict[str, str]
) -> None:
    assert spin_variables(environment) == added


def test_the_environment_is_as_before_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    before = dict(os.environ)
    with contextlib.suppress(ImportError), brief_spinning():
        assert os.environ["GOMP_SPINCOUNT"] == "4000"
        raise ImportError
    assert dict(os.environ) == before
