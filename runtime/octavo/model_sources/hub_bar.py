"""Bar of the hub's client: in place of one that is drawn, one whose bytes are counted."""

from __future__ import annotations

from typing import Any

from huggingface_hub.utils import tqdm

from octavo.loading.progress import ByteCount

# Of all files' bytes; others count files, or what came over the network once more.
_BYTES_OF_ALL = "huggingface_hub.snapshot_download"


def counting_bar(count: ByteCount) -> type[Any]:
    """A class for `snapshot_download(tqdm_class=…)`, none of which is drawn."""

    class CountingBar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts = options.pop("name", None) == _BYTES_OF_ALL
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                count.expect(int(self.total or 0))
                count.add(int(n or 0))
            return None

    return CountingBar
