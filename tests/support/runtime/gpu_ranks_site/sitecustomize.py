"""Rank's process that computes as on a GPU, or fails as one; imported at its start. See `gpu_ranks.py`."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

if "octavo.worker.ranks.process" in sys.orig_argv:
    import torch

    from tests.support.runtime.gpu_ranks import FAULT, KIND, enter, fail_at

    torch.set_num_threads(1)
    for_ever = ExitStack()
    enter(os.environ[KIND], for_ever)
    if FAULT in os.environ:
        fail_at(int(os.environ[FAULT]))
