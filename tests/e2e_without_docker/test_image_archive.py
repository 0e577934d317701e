"""Archives are what `docker load` expects: manifest, configurations, layers that hash right."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from e2e.image_archive import Image, Layer, go_architecture, layer_of_folder, write_archive
from host.errors import ToolError


def folder_with(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_a_layer_is_hashed_and_holds_the_folder(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "root", hello="world")
    (folder / "link").symlink_to("hello")
    layer = layer_of_folder(folder, tmp_path / "layer.tar")
    assert hashlib.sha256(layer.path.read_bytes()).hexdigest() == layer.digest
    with tarfile.open(layer.path) as archive:
        assert archive.extractfile("./hello").read() == b"world"  # type: ignore[union-attr]
        assert archive.getmember("./link").linkname == "hello"


def test_the_same_folder_gives_the_same_layer(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "root", a="1", b="2")
    first = layer_of_folder(folder, tmp_path / "1.tar")
    (folder / "a").touch()
    assert layer_of_folder(folder, tmp_path / "2.tar").digest == first.digest


def test_a_compressed_layer_is_known_by_its_plain_bytes(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "root", zeros="0" * 100_000)
    plain = layer_of_folder(folder, tmp_path / "plain.tar")
    packed = layer_of_folder(folder, tmp_path / "packed.tar", is_compressed=True)
    assert packed.digest == plain.digest
    assert gzip.decompress(packed.path.read_bytes()) == plain.path.read_bytes()
    assert packed.path.stat().st_size < plain.path.stat().st_size / 10


def test_images_share_layers_and_keep_their_names_and_settings(tmp_path: Path) -> None:
    layer = layer_of_folder(folder_with(tmp_path / "root", x="y"), tmp_path / "layer.tar")
    images = [
        Image(("localhost/a:1", "localhost/a:2"), (layer,), {"Entrypoint": ["/a"]}),
        Image(("localhost/b:1",), (layer,), {"User": "65535"}),
    ]
    stream = io.BytesIO()
    write_archive(stream, images)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        names = archive.getnames()
        assert names.count(f"{layer.digest}.tar") == 1
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert [entry["RepoTags"] for entry in manifest] == [
            ["localhost/a:1", "localhost/a:2"],
            ["localhost/b:1"],
        ]
        data = archive.extractfile(manifest[0]["Config"]).read()  # type: ignore[union-attr]
    assert manifest[0]["Config"] == f"{hashlib.sha256(data).hexdigest()}.json"
    configuration = json.loads(data)
    assert configuration["config"]["Entrypoint"] == ["/a"]
    assert configuration["rootfs"]["diff_ids"] == [f"sha256:{layer.digest}"]


def test_settings_change_the_image_id(tmp_path: Path) -> None:
    layer = Layer(tmp_path, "0" * 64)
    plain, named = Image((), (layer,)), Image((), (layer,), {"User": "1"})
    assert plain.configuration() != named.configuration()


def test_an_unknown_architecture_is_named() -> None:
    assert go_architecture("x86_64") == "amd64"
    with pytest.raises(ToolError, match="riscv64"):
        go_architecture("riscv64")
