"""FlashInfer's paged decode on the same problems: the yardstick of `attention`, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from benchmarks.gpu.timing import device_seconds

if TYPE_CHECKING:
    from benchmarks.gpu.sections.attention import Problem

_WORKSPACE_BYTES = 128 * 2**20


class Yardstick:
    """Times FlashInfer until it fails once: its failure costs its column and not the section.

    `state` says in words whether it is there.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        is_installed = importlib.util.find_spec("flashinfer") is not None
        self.state = version("flashinfer-python") if is_installed else "not installed"
        self._is_usable = is_installed and device.type == "cuda"

    def seconds(self, problem: Problem, block_size: int) -> float | None:
        """Of one call; None without FlashInfer."""
        if not self._is_usable:
            return None
        try:
            return device_seconds(_calls(problem, block_size), self._device)
        except Exception as error:  # whatever a library of another version raises
            self._is_usable = False
            self.state = f"failed: {type(error).__name__}: {error}"[:300]
            return None


def _calls(problem: Problem, block_size: int) -> list[Callable[[], object]]:
    """One planned call for each set of blocks; planning is not timed, as it runs once a step."""
    import flashinfer

    sets, batch, blocks = problem.tables.shape
    device = problem.query.device
    heads = problem.heads
    out = torch.empty_like(problem.query)
    length = int(problem.context_lens[0])
    indptr = torch.arange(batch + 1, dtype=torch.int32, device=device) * blocks
    last = torch.full((batch,), (length - 1) % block_size + 1, dtype=torch.int32, device=device)
    pages = (problem.cache[:, :, 0], problem.cache[:, :, 1])
    calls: list[Callable[[], object]] = []
    for number in range(sets):
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=device),
            kv_layout="NHD",
            use_tensor_cores=heads.num_heads // heads.num_kv_heads >= 4,
        )
        wrapper.plan(
            indptr,
            problem.tables[number].flatten(),
            last,
            heads.num_heads,
            heads.num_kv_heads,
            heads.head_dim,
            block_size,
            q_data_type=problem.query.dtype,
            kv_data_type=problem.cache.dtype,
            sm_scale=problem.options.scale,
        )
        calls.append(partial(wrapper.run, problem.query, pages, out=out))
    return calls
