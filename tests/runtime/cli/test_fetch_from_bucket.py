"""`octavo fetch s3://…` as a pod runs it, with the real client against a server that speaks S3."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import httpx
import pytest
from s3fs import S3FileSystem

from tests.support.runtime.called_command import Called

KEY_ID = "octavo-test-key"
LARGE = bytes(range(256)) * 80_000  # 20 MB: more than the client asks for in one piece
OBJECTS = {
    "models/tiny/config.json": b'{"model_type": "llama"}',
    "models/tiny/model.safetensors": LARGE,
    "models/tiny/tokenizer.json": b"{}",
    "models/tiny/pytorch_model.bin": b"a pickle",
    "models/tiny/run.py": b"print('no')",
    "models/tiny/consolidated.safetensors": LARGE,
    "models/tiny/original/model.safetensors": LARGE,
    "models/tiny/additional_chat_templates/tool_use.jinja": b"{{ tools }}",
    "models/empty/readme.md": b"nothing here",
}


class Bucket(BaseHTTPRequestHandler):
    """ListObjectsV2, HeadObject and GetObject with ranges, path-style, for one key and one bucket."""

    protocol_version = "HTTP/1.1"
    asks: str = ""
    """Where whoever fetches tells how far it is: asked before each piece of a file."""
    told: ClassVar[list[tuple[int, Any]]] = []

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        if f"Credential={KEY_ID}/" not in self.headers.get("Authorization", ""):
            self._refuse(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist")
        elif bucket != "octavo-models":
            self._refuse(404, "NoSuchBucket", "The specified bucket does not exist")
        elif not key:
            self._list({name: values[0] for name, values in parse_qs(address.query).items()})
        elif key not in OBJECTS:
            self._refuse(404, "NoSuchKey", "The specified key does not exist")
        else:
            self._send_object(OBJECTS[key])

    do_HEAD = do_GET  # noqa: N815 -- the base class finds its methods by these names

    def _list(self, query: dict[str, str]) -> None:
        prefix = query.get("prefix", "")
        found, folders = [], set()
        for name, data in sorted(OBJECTS.items()):
            rest = name.removeprefix(prefix)
            if not name.startswith(prefix):
                continue
            if query.get("delimiter") == "/" and "/" in rest:
                folders.add(prefix + rest.partition("/")[0] + "/")
                continue
            found.append(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size>"
                f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        common = "".join(
            f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in sorted(folders)
        )
        self._send_xml(
            200,
            "<ListBucketResult><Name>octavo-models</Name>"
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found) + len(folders)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{''.join(found)}{common}</ListBucketResult>",
        )

    def _send_object(self, data: bytes) -> None:
        if self.asks:
            answer = httpx.get(self.asks, timeout=60)
            self.told.append((answer.status_code, answer.json()))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        end = min(int(wanted[2]), len(data) - 1) if wanted and wanted[2] else len(data) - 1
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.send_header("ETag", '"e"')
        self._send_body(data[start : end + 1], "application/octet-stream")

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send_xml(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")

    def _send_xml(self, status: int, text: str) -> None:
        self.send_response(status)
        self._send_body(f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode(), "application/xml")

    def _send_body(self, data: bytes, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(data)
            except ConnectionError:
                self.close_connection = True  # the client wants the rest in pieces

    def log_message(self, *_: object) -> None:
        """Nothing: requests are not the test's output."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    # A name, not an address: the buckets of one's own server are paths below it, no subdomains.
    yield f"http://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def environment(
    tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    """Of one who has a key: nothing of the person's own may leak in, nor the server's client out."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path),  # no ~/.aws
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": "octavo-test-secret",
        "OCTAVO_TERMINATION_LOG": str(tmp_path / "termination"),
    }.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # with the keys that they found
    yield monkeypatch
    S3FileSystem.clear_instance_cache()


def test_a_model_is_fetched_from_a_bucket_whole_and_without_copies_code_or_pickle(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment.setattr(Bucket, "asks", f"http://127.0.0.1:{port}/startupz")
    options = ("--to", str(tmp_path / "to"), "--progress-address", f"127.0.0.1:{port}")
    done = subprocess.run(
        [sys.executable, "-m", "octavo", "fetch", "s3://octavo-models/models/tiny", *options],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "additional_chat_templates/tool_use.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (folder / "model.safetensors").read_bytes() == LARGE
    for status, told in Bucket.told:
        (phase,) = told["phases"]
        assert (status, phase["name"], phase["done"]) == (503, "resolve", False)
    assert len(Bucket.told) >= 4


@pytest.mark.parametrize(
    "name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"]
)
@pytest.mark.parametrize(("before", "behind"), [("", "\n"), ("\ufeff", "\r\n")])
def test_what_a_secret_made_of_a_file_has_around_its_value_stands_in_no_way(
    tmp_path: Path,
    environment: pytest.MonkeyPatch,
    octavo: Called,
    name: str,
    before: str,
    behind: str,
) -> None:
    values = {"AWS_SESSION_TOKEN": "octavo-test-token", "AWS_DEFAULT_REGION": "eu-central-1"}
    value = os.environ.get(name) or values[name]
    environment.setenv(name, f"{before}{value}{behind}")
    done = octavo("fetch", "s3://octavo-models/models/tiny", "--to", str(tmp_path / "to"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "key", "reason", "words"),
    [
        ("s3://octavo-models/models/tiny", "", "DownloadFailed", "no AWS credentials"),
        ("s3://octavo-models/models/tiny", "wrong", "DownloadFailed", "Access Key Id does not"),
        ("s3://octavo-models/models/tiny", "wr\nong", "DownloadFailed", "AWS_ACCESS_KEY_ID holds"),
        ("s3://octavo-models/models/absent", KEY_ID, "ModelNotFound", "does not exist"),
        ("s3://octavo-models/models/empty", KEY_ID, "ModelNotFound", "no config.json"),
        ("s3://octavo-absent/models/tiny", KEY_ID, "ModelNotFound", "does not exist"),
    ],
)
def test_what_the_bucket_refuses_is_one_line_that_says_what_to_do(
    tmp_path: Path,
    environment: pytest.MonkeyPatch,
    octavo: Called,
    model: str,
    key: str,
    reason: str,
    words: str,
) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", key)
    if not key:
        environment.delenv("AWS_ACCESS_KEY_ID")
        environment.delenv("AWS_SECRET_ACCESS_KEY")
    done = octavo("fetch", model, "--to", str(tmp_path / "to"))
    assert done.returncode != 0
    assert done.stderr.startswith(f"octavo: {reason}: {model}"), done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert reason in (tmp_path / "termination").read_text()
    assert not [path for path in (tmp_path / "to").rglob("*") if path.is_file()]
