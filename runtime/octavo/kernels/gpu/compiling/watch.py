"""Compile watch. Notices kernels that are compiled: a step of serving that waits for a compiler is a second
late or more."""

from __future__ import annotations

import logging
from typing import Any

from triton import knobs

logger = logging.getLogger(__name__)


class CompileWatch:
    """Counts what is compiled up to `serving_begins`, and warns of what is compiled later.

    What is found in Triton's cache counts as neither. From its creation on it lasts as long as the process.
    """

    def __init__(self) -> None:
        self.num_compiled = 0
        self._is_serving = False
        knobs.compilation.listener = self._on_compiled

    def serving_begins(self) -> None:
        logger.info("GPU kernels: warm-up had to compile %d forms.", self.num_compiled)
        self._is_serving = True

    def _on_compiled(self, *, src: Any, times: Any, cache_hit: bool, **_: object) -> None:
        if cache_hit:
            return
        if not self._is_serving:
            self.num_compiled += 1
            return
        logger.warning(
            "GPU kernel %s was compiled in the middle of serving, which took %.1f s: warm-up should have run "
            "it. Please report this with the model's config.json.",
            src.name,
            times.total / 1e6,
        )
