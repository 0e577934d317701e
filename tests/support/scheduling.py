"""Scheduling of tests over processes: by file, or by a folder whose tests share what is dear.

Fixtures of a whole run are made in each process that uses them: two of three API servers would start, and
idle to the end, for nothing.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

_SHARING = ("tests/operator/apiserver/",)


class FolderScheduling(LoadFileScheduling):  # type: ignore[misc]
    """As `--dist loadfile`, with folders that stay together."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next((folder for folder in _SHARING if nodeid.startswith(folder)), None)
        return folder or str(super()._split_scope(nodeid))
