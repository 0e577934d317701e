"""From a model's name to its folder. The hub and the bucket are local servers that speak the protocol."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import save

from octavo.errors import DownloadFailedError, ModelNotFoundError
from octavo.loading.headers import TensorHeader
from octavo.model_source import (
    BucketModel,
    BuiltinModel,
    HubModel,
    LocalModel,
    default_served_name,
    described,
    parse,
    resolve,
)
from octavo.model_sources.hosts import asked_host
from octavo.model_sources.names import first_line
from tests.support.runtime.memory_bucket import memory_bucket

COMMIT = "a" * 40


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("builtin://demo", "demo"),
        ("hf://org/name@v1.0", "org/name"),
        ("org/name", "org/name"),
        ("/models/x", "/models/x"),
        ("s3://my-bucket/models/llama", "s3://my-bucket/models/llama"),
    ],
)
def test_clients_call_a_model_by_its_name_without_scheme_and_revision(
    model: str, name: str
) -> None:
    assert default_served_name(model) == name


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("builtin://demo", BuiltinModel("demo")),
        ("hf://org/name", HubModel("org/name", None)),
        ("hf://org/name@v1.0", HubModel("org/name", "v1.0")),
        ("hf://org/name@refs/pr/3", HubModel("org/name", "refs/pr/3")),
        ("meta-llama/Llama-3.1-8B", HubModel("meta-llama/Llama-3.1-8B", None)),
        ("s3://my-bucket/models/llama/", BucketModel("my-bucket", "models/llama")),
        ("./x", LocalModel(Path("./x"))),
        ("../../etc", LocalModel(Path("../../etc"))),
        ("/models/x", LocalModel(Path("/models/x"))),
        ("models/", LocalModel(Path("models"))),
        ("org/name/", LocalModel(Path("org/name"))),
        ("~nobody-of-this-name/x", LocalModel(Path("~nobody-of-this-name/x"))),
    ],
)
def test_a_name_says_where_the_model_is(model: str, expected: object) -> None:
    assert parse(model) == expected


@pytest.mark.parametrize(
    "model",
    [
        "",
        "demo",
        "builtin://other",
        "builtin://../../etc",
        "hf://../../etc",
        "hf://org/..",
        "hf://org/name/extra",
        "hf://org",
        "hf://org/name@",
        "hf://org/name@a b",
        "hf://org/name@../../x",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/../other",
        "s3://Bucket_/x",
        "s3://b/demo",
        "http://host/model",
        "file:///etc",
        "pvc://claim/path",
        "org/name;rm",
        "x" * 5000,
    ],
)
def test_what_is_no_name_is_refused_with_the_forms_that_are(model: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"There is no model|must read"):
        parse(model)


def test_a_bucket_whose_name_is_too_short_is_told_so() -> None:
    with pytest.raises(ModelNotFoundError, match="'b' is no name of a bucket, which has 3 to 63"):
        parse("s3://b/demo")


def test_revision_argument_yields_to_the_names_own() -> None:
    assert parse("org/name", revision="main") == HubModel("org/name", "main")
    assert parse("hf://org/name@v2", revision="main") == HubModel("org/name", "v2")


def test_a_folder_with_a_model_wins_over_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFoundError, match="no folder"):
        resolve(str(tmp_path / "absent"))
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        resolve(str(tmp_path))
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == folder  # a folder that is there wins over a hub name


def test_what_is_there_and_no_folder_is_told_and_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "link").symlink_to("gone")
    (odd / "loop").symlink_to("loop")
    (odd / "file").touch()
    (odd / "model.gguf").touch()
    said = {
        "odd/link": "odd/link is a link to gone, which is not there. Use",
        "odd/loop": "The folder odd/loop cannot be read: Too many levels of symbolic links. Use",
        "odd/file": "odd/file is a file, and no folder. Use",
        "odd/model.gguf": "odd holds GGUF weights",
        "odd/file/x": "There is no model 'odd/file/x', and no folder of that name. Use",
        "odd/none/": "There is no folder odd/none. Use",
        f"./{'x' * 300}": f"The folder {'x' * 300} cannot be read: File name too long. Use",
        "file:///models/x": "There is no model 'file:///models/x': a folder is named by its path",
    }
    for model, start in said.items():
        for find in (resolve, lambda name: described(name).__enter__()):
            with pytest.raises(ModelNotFoundError) as caught:
                find(model)
            assert str(caught.value).startswith(start)


class _Hub(BaseHTTPRequestHandler):
    """The three routes of the hub that a snapshot needs: revision info, file tree, file content."""

    files: ClassVar[dict[str, bytes]] = {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"pickle",
        "modeling_x.py": b"raise SystemExit",
        "tokenizer.json": b"{}",
    }
    is_down: ClassVar[bool] = False
    fetched: ClassVar[list[str]] = []
    num_bytes: ClassVar[int] = 0
    # Set where ranges are answered; None: at once.
    let_go: ClassVar[threading.Event | None] = None
    commits: ClassVar[list[str]] = [COMMIT]
    """Of `main`: each time that it is asked for, the next one; the last stays."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.is_down:
            self._answer(503, {"error": "down"})
        elif path.startswith("/api/models/org/gated"):
            self._answer(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        elif path.startswith("/api/models/org/broken"):
            self._answer(418, {"error": "teapot"})
        elif not path.startswith(("/api/models/org/name", "/org/name/resolve/")):
            self._answer(404, {"error": "absent"}, {"X-Error-Code": "RepoNotFound"})
        elif "/revision/" in path and not path.endswith(("/main", "a" * 40, "b" * 40, "c" * 40)):
            self._answer(404, {"error": "absent"}, {"X-Error-Code": "RevisionNotFound"})
        elif "/tree/" in path:
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": f"{i:040x}"}
                for i, (name, data) in enumerate(self.files.items())
            ]
            self._answer(200, tree)
        elif path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in self.files]
            commit = self.commits.pop(0) if self.commits[1:] else self.commits[0]
            self._answer(200, {"id": "org/name", "sha": commit, "siblings": siblings})
        else:
            self._file(path.partition("/resolve/")[2].partition("/")[2])

    do_HEAD = do_GET  # noqa: N815 (the base class's spelling)

    def _file(self, name: str) -> None:
        data = self.files[name]
        if self.command == "GET":
            self.fetched.append(name)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span and self.let_go is not None:
            self.let_go.wait(60)
            return
        if span:
            data = data[int(span[1]) : int(span[2]) + 1]
        if self.command == "GET":
            _Hub.num_bytes += len(data)
        self.send_response(206 if span else 200)
        self.send_header("X-Repo-Commit", self.commits[0])
        self.send_header("ETag", f'"{name}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    return memory_bucket(monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    from huggingface_hub import constants

    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    _Hub.fetched.clear()
    yield _Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_weights_and_text_are_fetched_from_the_hub(tmp_path: Path, hub: type[_Hub]) -> None:
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
    tmp_path: Path, hub: type[_Hub], monkeypatch: pytest.MonkeyPatch
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
    tmp_path: Path, hub: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

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
    hub: type[_Hub],
    bucket: MemoryFileSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such repositories mostly hold nothing else."""
    name = "model-Q4_K_M.gguf"
    monkeypatch.setattr(hub, "files", {"README.md": b"", name: b"GGUF"})
    bucket.pipe(f"/bucket/m/{name}", b"GGUF")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).touch()
    for model in ("org/name", "s3://bucket/m", str(tmp_path / "m"), str(tmp_path / "m" / name)):
        with pytest.raises(ModelNotFoundError, match=r"GGUF weights \(model-Q4_K_M\.gguf\).*AWQ"):
            resolve(model, download_dir=tmp_path / "to")


def test_a_sharded_model_is_fetched_once_however_often_the_hub_holds_it(
    tmp_path: Path, hub: type[_Hub], monkeypatch: pytest.MonkeyPatch
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
    tmp_path: Path, hub: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which files to have is read of one commit and holds for no other."""
    moved = "b" * 40
    monkeypatch.setattr(hub, "commits", [COMMIT, moved])
    assert resolve("hf://org/name", download_dir=tmp_path).name == moved
    monkeypatch.setattr(hub, "commits", [COMMIT, moved, "c" * 40] * 9)
    with pytest.raises(DownloadFailedError, match=r"new commits while .*@COMMIT"):
        resolve("hf://org/name", download_dir=tmp_path)


def test_what_was_fetched_is_served_while_the_hub_is_down(
    tmp_path: Path, hub: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = resolve("hf://org/name", download_dir=tmp_path)
    monkeypatch.setattr(hub, "is_down", True)
    assert resolve("hf://org/name", download_dir=tmp_path) == folder
    with pytest.raises(
        DownloadFailedError, match=r"could not be fetched from 127\.0\.0\.1:\d+: .*503"
    ):
        resolve("hf://org/name", download_dir=tmp_path / "elsewhere")
    from huggingface_hub import constants

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


def test_the_bundled_model_is_there_or_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    with pytest.raises(ModelNotFoundError, match="not part of this installation"):
        resolve("builtin://demo")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.json").write_text("{}")
    assert resolve("builtin://demo") == tmp_path / "demo"


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_not_reached_is_named_without_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

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
