"""Freed memory goes back while weights are read, and not for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octavo.loading import SafetensorsWeights
from octavo.worker.start import trimmed_source
from octavo.worker.start.trimmed_source import TrimmedSource


def test_memory_is_given_back_each_time_that_so_many_bytes_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimmed_source, "_PERIOD_BYTES", 100)
    weights = {f"w{index}": torch.full((10,), float(index)) for index in range(10)}
    save_file(weights, tmp_path / "model.safetensors")
    given: list[int] = []
    source = TrimmedSource(SafetensorsWeights(tmp_path), lambda: given.append(1))
    counts = []
    for name, expected in weights.items():
        (found,) = source.tensors({name: (10,)})
        assert torch.equal(found, expected)
        counts.append(len(given))
    assert counts == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]  # 40 bytes each
    source.finish(lambda _: False)
