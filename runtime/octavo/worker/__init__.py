"""The device side of the engine: model, KV memory and sampling behind the `Executor` protocol."""

from __future__ import annotations

import os

# GNU OpenMP reads these when torch loads it, hence here. By default a thread that waits for the others
# spins for milliseconds, which takes the core from the API process, and from the very thread that is
# waited for: with two busy neighbours on two cores, a step of eight rows of a 0.6B model took 700 ms, and
# 220 ms with some 50 µs of spinning. What the user sets is left alone.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "4000"
