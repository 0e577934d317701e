"""Models in buckets: what of one is fetched, described, resumed and refused."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import save

from octavo.errors import DownloadFailedError, ModelNotFoundError
from octavo.loading.headers import TensorHeader
from octavo.model_source import described, resolve
from octavo.model_sources.partial_folder import partial_folder
from tests.support.runtime.memory_bucket import memory_bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    return memory_bucket(monkeypatch)


def test_a_bucket_is_fetched_once_by_need_without_code_or_pickle(
    tmp_path: Path, bucket: MemoryFileSystem
) -> None:
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})
    wanted = {
        "config.json": "{}",
        "model.safetensors.index.json": index,
        "a.safetensors": "a",
        "b.safetensors": "b",
        "tokenizer.json": "{}",
        "additional_chat_templates/rag.jinja": "{{ documents }}",
    }
    strays = [
        "x.bin",
        "run.py",
        "consolidated.safetensors",
        "original/a.safetensors",
        "onnx/m.json",
    ]
    for name, text in {**dict.fromkeys(strays, "?"), **wanted}.items():
        bucket.pipe(f"/bucket/models/m/{name}", text.encode())
    bucket.pipe("/bucket/models/m2/config.json", b"another model")
    told: list[tuple[int, int]] = []
    folder = resolve("s3://bucket/models/m", download_dir=tmp_path, tell=lambda *n: told.append(n))
    assert told[-1] == (sum(map(len, wanted.values())),) * 2
    files = {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.*")}
    assert files == wanted
    bucket.store.clear()
    assert resolve("s3://bucket/models/m", download_dir=tmp_path) == folder


def test_a_model_in_a_bucket_is_described_without_its_weights(
    tmp_path: Path, bucket: MemoryFileSystem
) -> None:
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        bucket.pipe(f"/bucket/m/{name}", b"{}")
    bucket.pipe("/bucket/m/model.safetensors", save({"a": torch.zeros(2, 3)}))
    with described("s3://bucket/m", download_dir=tmp_path) as found:
        names = sorted(path.name for path in found.folder.iterdir())
    assert found.headers == {"a": TensorHeader("F32", (2, 3), 24)}
    assert names == ["config.json", "generation_config.json"]
    assert not list(tmp_path.iterdir()), "what is no whole model is not kept as one"
    assert (resolve("s3://bucket/m", download_dir=tmp_path) / "model.safetensors").is_file()


def test_an_interrupted_download_leaves_nothing_that_looks_complete(
    tmp_path: Path, bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.pipe("/bucket/m/config.json", b"{}")
    bucket.pipe("/bucket/m/model.safetensors", b"weights")
    bucket.pipe("/bucket/m/tokenizer.json", b"{}")
    original = MemoryFileSystem.get_file

    def failing(self: MemoryFileSystem, key: str, target: str, **kwargs: Any) -> None:
        if key.endswith("config.json"):
            original(self, key, target, **kwargs)
        else:
            raise OSError("connection lost")

    monkeypatch.setattr(MemoryFileSystem, "get_file", failing)
    with pytest.raises(DownloadFailedError, match="connection lost"):
        resolve("s3://bucket/m", download_dir=tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    monkeypatch.setattr(MemoryFileSystem, "get_file", original)
    assert (resolve("s3://bucket/m", download_dir=tmp_path) / "model.safetensors").is_file()


def test_what_a_killed_download_left_goes_and_one_under_way_stays(tmp_path: Path) -> None:
    (tmp_path / ".partial-killed").mkdir()
    (tmp_path / ".partial-killed/model.safetensors").touch()
    (tmp_path / ".partial-killed.lock").touch()
    with partial_folder(tmp_path) as first, partial_folder(tmp_path) as second:
        there = {path.name for path in tmp_path.iterdir() if path.is_dir()}
        assert there == {first.name, second.name}
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("bucket")
def test_an_empty_bucket_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        resolve("s3://bucket/none", download_dir=tmp_path)


def test_missing_s3fs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_protocol: str, **_: Any) -> Any:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(DownloadFailedError, match="pip install s3fs"):
        resolve("s3://bucket/m", download_dir=tmp_path)


def test_a_host_that_refuses_a_bucket_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3's own client, which tells a word alone ("Forbidden")."""
    from s3fs import S3FileSystem

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    try:
        with pytest.raises(DownloadFailedError, match=rf"s3://bucket/m .* from {address}: "):
            resolve("s3://bucket/m", download_dir=tmp_path)
    finally:
        S3FileSystem.clear_instance_cache()
        server.shutdown()
        server.server_close()
