"""Hypothesis' settings: no test depends on how fast the machine is, and CI's answer not on chance.

Where `CI` is set, as hosted services do, hypothesis draws the same examples for the same tests, as its own
default profile does there: what a change broke is told apart from what another drawing found. Everywhere
else each run draws new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("octavo", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("octavo")
