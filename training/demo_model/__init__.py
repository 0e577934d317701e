"""Data, training and evaluation of `builtin://demo`, the tiny Llama that ships with Octavo."""

import os

# Before torch loads OpenMP: threads that wait must sleep. When another process shares the cores,
# spinning makes each step up to ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
