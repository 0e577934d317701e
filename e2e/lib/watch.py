"""Everything that became of a kind of object in a namespace, in order, from the moment one starts to look."""

from __future__ import annotations

import json
import subprocess
import threading
from types import TracebackType
from typing import Self

from e2e.lib.kubectl import Kubectl, Object


class Watch:
    """`kubectl get KIND --watch` in the background; `seen` holds every version that the API server sent."""

    def __init__(self, kubectl: Kubectl, kind: str) -> None:
        self.seen: list[Object] = []
        self._process = kubectl.popen(
            "get",
            kind,
            "--watch",
            "--output=json",
            "--output-watch-events",
            stderr=subprocess.DEVNULL,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._reader.join(timeout=10)

    def _read(self) -> None:
        # With watch events kubectl writes each as one line.
        for line in self._process.stdout or ():
            self.seen.append(json.loads(line)["object"])
