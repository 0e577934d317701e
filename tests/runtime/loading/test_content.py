"""The content of a model's folder: the same for each copy, another one for another model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from octavo.loading.content import content_of
from octavo.model_source import resolve


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """With weights of which samples alone are read."""
    folder = tmp_path / "model"
    shutil.copytree(resolve("builtin://demo"), folder)
    assert (folder / "model.safetensors").stat().st_size > 2**20
    return folder


def test_a_copy_has_the_same_content_whatever_lies_beside_it(model: Path, tmp_path: Path) -> None:
    content = content_of(model)
    assert content is not None
    copy = tmp_path / "other"
    shutil.copytree(model, copy)
    os.utime(copy / "config.json", (1, 1))
    (copy / "README.md").write_text("another text")
    (copy / "checkpoint-1").mkdir()
    (copy / "checkpoint-1/model.safetensors").write_bytes(b"?")
    assert content_of(copy) == content


def test_what_is_written_over_has_another_content(model: Path) -> None:
    before = content_of(model)
    seen = {before}
    weights = (model / "model.safetensors").read_bytes()
    # What training changes: bytes everywhere behind the header; as many as before.
    half = len(weights) // 2
    (model / "model.safetensors").write_bytes(
        weights[:half] + bytes(each ^ 1 for each in weights[half:])
    )
    seen.add(content_of(model))
    config = model / "config.json"
    config.write_text(config.read_text().replace("}", " }", 1))
    seen.add(content_of(model))
    (model / "chat_template.jinja").write_text("{{ messages[0].content }} ")
    seen.add(content_of(model))
    assert len(seen) == 4
    assert None not in seen


def test_of_what_is_no_model_nothing_is_told(tmp_path: Path) -> None:
    assert content_of(tmp_path) is None
    assert content_of(tmp_path / "none") is None
    (tmp_path / "config.json").write_text("{")
    assert content_of(tmp_path) is None
