"""Scheduling of tests over processes: by file, or by a folder whose tests share what is dear; the long first.

Fixtures of a whole run are made in each process that uses them: two of three API servers would start, and
idle to the end, for nothing. Files with most tests come first, as xdist has it, but those with few tests and
much to wait for would be the last then, each alone with a core that has nothing else to do.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

SHARING = ("tests/operator/apiserver/",)

# Of 20 s and more, the longest first. Where one is missing the end of a run gets longer, and nothing else.
LONG = (
    "tests/runtime/worker/test_gpu_ranks.py",
    "tests/runtime/server/test_shutdown.py",
    "tests/runtime/server/test_nodes.py",
    "tests/runtime/worker/test_nodes.py",
    "tests/runtime/worker/test_gpu_path_published.py",
    "tests/runtime/worker/test_gpu_path_interpreted.py",
    "tests/runtime/test_sleep.py",
    "tests/runtime/worker/test_ranks.py",
    "tests/benchmarks/test_smoke.py",
    "tests/runtime/kernels/test_numba_setup.py",
    "tests/runtime/worker/test_gpu_path_quantised.py",
    "tests/runtime/worker/test_launched_forms.py",
    "tests/runtime/worker/test_compile_ahead.py",
    "tests/runtime/server/test_faults.py",
    "tests/runtime/server/test_ranks.py",
    "tests/e2e_lib/test_scripts.py",
    "tests/benchmarks/test_server_smoke.py",
    "tests/benchmarks/test_mixed_load.py",
    "tests/benchmarks/test_prefix_cache_cost.py",
    "tests/runtime/worker/test_gpu_path_compiled.py",
    "tests/runtime/server/test_hostile.py",
    "tests/runtime/server/test_hints.py",
)


class FolderScheduling(LoadFileScheduling):  # type: ignore[misc]
    """As `--dist loadfile`, with folders that stay together, and files that go first."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next((folder for folder in SHARING if nodeid.startswith(folder)), None)
        return folder or str(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: WorkerController) -> None:
        first = next((scope for scope in (*SHARING, *LONG) if scope in self.workqueue), None)
        if first is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)
