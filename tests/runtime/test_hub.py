"""Models of the hub: what is fetched, once, of one commit, and what is told when nothing comes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from octavo.errors import DownloadFailedError, ModelNotFoundError
from octavo.loading.headers import TensorHeader
from octavo.model_source import described, resolve
from octavo.model_sources.hosts import asked_host
from octavo.model_sources.names import first_line
from tests.support.runtime.local_hub import COMMIT, LocalHub, local_hub
from tests.support.runtime.memory_bucket import memory_bucket


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[LocalHub]]:
    with local_hub(monkeypatch) as hub:
        yield hub


def test_only_weights_and_text_are_fetched_from_the_hub(
    tmp_path: Path, hub: type[LocalHub]
) -> None:
    told: list[tuple[int, int]] = []
    folder = resolve("hf://org/name", download_dir=tmp_path, tell=lambda *n: told.append(n))
    bytes_of_all = sum(len(hub.files[name]) for name in ("model.safetensors", "tokenizer.json"))
    assert told[-1] == (bytes_of_all, bytes_of_all)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert folder.is_relative_to(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    count = len(hub.fetched)
    assert resolve("org/name", download_dir=tmp_path) == folder
    assert len(hub.fetched) == count, "what is there must not be fetched again"


def test_a_model_on_the_hub_is_described_without_its_weights(
    tmp_path: Path, hub: type[LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = save({"a.weight": torch.zeros(300, 1000, dtype=torch.bfloat16)})
    monkeypatch.setitem(hub.files, "model.safetensors", weights)
    hub.num_bytes = 0
    with described("hf://org/name", download_dir=tmp_path) as found:
        assert [path.name for path in found.folder.iterdir()] == ["config.json"]
    assert found.headers == {"a.weight": TensorHeader("BF16", (300, 1000), 600_000)}
    assert hub.num_bytes < 1000
    whole = resolve("hf://org/name", download_dir=tmp_path)
    assert (whole / "model.safetensors").read_bytes() == weights
    with described("hf://org/name", download_dir=tmp_path) as found:
        assert found.headers is None


def test_a_hub_that_falls_silent_is_not_waited_for_without_end(
    tmp_path: Path, hub: type[LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(hub, "let_go", released)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    try:
        with (
            pytest.raises(
                DownloadFailedError, match=r"org/name could not be fetched from \S+: .*timed out"
            ),
            described("hf://org/name", download_dir=tmp_path),
        ):
            pass
    finally:
        released.set()


def test_gguf_is_refused_with_what_to_use_instead(
    tmp_path: Path,
    hub: type[LocalHub],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such repositories mostly hold nothing else."""
    name = "model-Q4_K_M.gguf"
    monkeypatch.setattr(hub, "files", {"README.md": b"", name: b"GGUF"})
    memory_bucket(monkeypatch).pipe(f"/bucket/m/{name}", b"GGUF")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).touch()
    for model in ("org/name", "s3://bucket/m", str(tmp_path / "m"), str(tmp_path / "m" / name)):
        with pytest.raises(ModelNotFoundError, match=r"GGUF weights \(model-Q4_K_M\.gguf\).*AWQ"):
            resolve(model, download_dir=tmp_path / "to")


def test_a_sharded_model_is_fetched_once_however_often_the_hub_holds_it(
    tmp_path: Path, hub: type[LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [f"model-{n:05d}-of-00002.safetensors" for n in (1, 2)]
    index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}).encode()
    wanted = {
        "config.json": b"{}",
        "model.safetensors.index.json": index,
        shards[0]: b"one",
        shards[1]: b"two",
        "tokenizer.json": b"{}",
        "additional_chat_templates/tool_use.jinja": b"{{ tools }}",
    }
    strays = dict.fromkeys(
        ["consolidated.safetensors", "original/model.safetensors", "onnx/model.onnx", "x.bin"], b"?"
    )
    monkeypatch.setattr(hub, "files", {**strays, **wanted})
    folder = resolve("hf://org/name@main", download_dir=tmp_path)
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    assert files == wanted
    assert sorted(hub.fetched) == sorted(wanted), "each once, and nothing beside"


def test_a_branch_that_moves_while_it_is_fetched_is_fetched_of_one_commit(
    tmp_path: Path, hub: type[LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which files to have is read of one commit and holds for no other."""
    moved = "b" * 40
    monkeypatch.setattr(hub, "commits", [COMMIT, moved])
    assert resolve("hf://org/name", download_dir=tmp_path).name == moved
    monkeypatch.setattr(hub, "commits", [COMMIT, moved, "c" * 40] * 9)
    with pytest.raises(DownloadFailedError, match=r"new commits while .*@COMMIT"):
        resolve("hf://org/name", download_dir=tmp_path)


def test_what_was_fetched_is_served_while_the_hub_is_down(
    tmp_path: Path, hub: type[LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = resolve("hf://org/name", download_dir=tmp_path)
    monkeypatch.setattr(hub, "is_down", True)
    assert resolve("hf://org/name", download_dir=tmp_path) == folder
    with pytest.raises(
        DownloadFailedError, match=r"could not be fetched from 127\.0\.0\.1:\d+: .*503"
    ):
        resolve("hf://org/name", download_dir=tmp_path / "elsewhere")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve("hf://org/name", download_dir=tmp_path) == folder
    with pytest.raises(DownloadFailedError, match="HF_HUB_OFFLINE"):
        resolve("hf://org/name", download_dir=tmp_path / "elsewhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DownloadFailedError, match="HF_HUB_OFFLINE"):
        resolve("hf://org/name", download_dir=tmp_path)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("hf://org/absent", ModelNotFoundError, "knows no model hf://org/absent"),
        ("hf://org/name@nope", ModelNotFoundError, "no revision 'nope'"),
        ("hf://org/gated", DownloadFailedError, "HF_TOKEN"),
        ("hf://org/broken", DownloadFailedError, "could not be fetched"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_says_what_to_do(
    tmp_path: Path, model: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        resolve(model, download_dir=tmp_path)


@pytest.mark.parametrize("model", ["org/absent", "org/broken"])
@pytest.mark.usefixtures("hub")
def test_a_name_that_may_be_a_folders_is_told_as_none_of_these_either(
    tmp_path: Path, model: str
) -> None:
    for name, is_told in ((model, True), (f"hf://{model}", False)):
        with pytest.raises((ModelNotFoundError, DownloadFailedError)) as resolving:
            resolve(name, download_dir=tmp_path)
        with (
            pytest.raises((ModelNotFoundError, DownloadFailedError)) as describing,
            described(name, download_dir=tmp_path),
        ):
            pass
        for caught in (resolving, describing):
            hint = f"There is no folder {model} here either."
            assert str(caught.value).endswith(hint) == is_told


def test_what_others_say_becomes_part_of_a_sentence() -> None:
    assert first_line(OSError("Exceeded maximum allowed redirects.\n  at …")) == (
        "Exceeded maximum allowed redirects"
    )
    assert first_line(TimeoutError()) == "TimeoutError"


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_not_reached_is_named_without_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", f"http://someone:secret@{address}/hub")
        with pytest.raises(DownloadFailedError, match=rf"org/name .* from {address}: ") as told:
            resolve("hf://org/name", download_dir=tmp_path)
    assert "secret" not in str(told.value)


def test_of_hosts_that_send_on_the_last_one_is_named() -> None:
    request = httpx.Request("GET", "https://user:key@cdn.example:444/weights?signature=secret")
    lost = OSError("not found on disk and the connection failed")
    lost.__cause__ = httpx.ConnectError("Name or service not known", request=request)
    assert asked_host(lost, "https://hub.example") == "cdn.example:444"
    lost.__cause__ = httpx.ConnectError("no request is set")
    assert asked_host(lost, "https://a:b@hub.example/x") == "hub.example"
    assert asked_host(OSError("the disk is full"), "") == ""
