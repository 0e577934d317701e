"""API keys: which are taken, and how they change in a file while the server reads it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from octavo.errors import InvalidConfigurationError
from octavo.server.process import api_keys
from octavo.server.process.api_keys import ApiKeys, read_keys
from tests.support.runtime.server_process import ServerProcess, eventually


class SecretVolume:
    """A folder that changes as the kubelet changes a mounted Secret: all files at once, by one link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._version = 0

    def publish(self, **files: str) -> None:
        self.change(**files)
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for link in self.folder.iterdir():
            if not link.exists():
                link.unlink()

    def change(self, **files: str) -> None:
        """Its first step, before new files' links are made and old ones' are taken away."""
        self._version += 1
        version = self.folder / f"..{self._version}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
        (self.folder / "..new").symlink_to(version.name)
        (self.folder / "..new").replace(self.folder / "..data")


def names(path: Path) -> list[str]:
    return [key.name for key in read_keys(path)]


def test_a_file_holds_what_white_space_separates(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one two\r\n\n\tthree\n")
    keys = ApiKeys(("given",), file)
    assert [keys.name_of(key) for key in ("one", "two", "three", "given")] == [
        "keys",
        "keys:2",
        "keys:3",
        "given:1",
    ]
    assert [keys.name_of(key) for key in ("", "one two", "On", "keys")] == [None] * 4


def test_a_folder_holds_a_key_for_each_file_and_nothing_of_the_kubelet_s(tmp_path: Path) -> None:
    volume = SecretVolume(tmp_path / "volume")
    volume.publish(blue="b1", red="r1 r2")
    (volume.folder / "below").mkdir()
    (volume.folder / "below" / "file").write_text("not-read")
    assert names(volume.folder) == ["blue", "red", "red:2"]
    volume.publish(red="r3")
    assert names(volume.folder) == ["red"]


def test_a_mounted_secret_is_read_as_one_state_in_the_midst_of_its_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = SecretVolume(tmp_path / "volume")
    volume.publish(blue="k1", red="k2")
    volume.change(green="k1", red="k2")
    assert names(volume.folder) == ["green", "red"]
    volume.publish(green="k1", red="k2")
    before, read = (volume.folder / "..data").resolve(), api_keys._keys_in

    def overtaken(file: Path, path: Path) -> list[tuple[api_keys.Key, str]]:
        """By the kubelet, which takes the old state away after the change."""
        if before.exists():
            volume.publish(grey="k1", red="k2")
            shutil.rmtree(before)
        return read(file, path)

    monkeypatch.setattr(api_keys, "_keys_in", overtaken)
    assert names(volume.folder) == ["grey", "red"]
    volume.publish(red="k2", teal="k2")
    with pytest.raises(InvalidConfigurationError, match=f"of {volume.folder}/teal"):
        read_keys(volume.folder)


@pytest.mark.parametrize(
    "content", ["clé".encode(), b"key\xef\xbb\xbf", "key".encode("utf-16"), b"a\0b", b"\x7f"]
)
def test_what_a_header_cannot_carry_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(InvalidConfigurationError, match="keys holds characters"):
        ApiKeys((), file)


def test_hidden_files_and_editors_backups_hold_no_keys(tmp_path: Path) -> None:
    for name in ("a", "b.bak", ".hid", ".b.swp", "..data", "a~", "#a#"):
        (tmp_path / name).write_text(f"key-of-{name}")
    assert names(tmp_path) == ["a", "b.bak"]
    assert names(tmp_path / ".hid") == [".hid"], "one that is named is read"


@pytest.mark.parametrize("text", ["key", '{"key": "key"}'])
def test_a_byte_order_mark_before_the_keys_is_passed_over(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8-sig")
    assert ApiKeys((), file).name_of("key") == "keys"


@pytest.mark.parametrize(
    ("files", "places"),
    [
        (
            {"a": '[{"key": "sk", "name": "t", "requests_per_minute": 5}, {"key": "sk"}]'},
            r"t \(entry 1 of \S+/a\) and a:2 \(entry 2 of \S+/a\) are",
        ),
        ({"a": "x sk", "b": "sk"}, r"a:2 \(entry 2 of \S+/a\) and b \(entry 1 of \S+/b\) are"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_by_both_names(
    tmp_path: Path, files: dict[str, str], places: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidConfigurationError, match=places) as refusal:
        read_keys(tmp_path)
    assert "sk" not in str(refusal.value).replace(str(tmp_path), "")


def test_a_file_that_cannot_be_a_file_of_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigurationError, match="none cannot be read"):
        ApiKeys((), tmp_path / "none")
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(InvalidConfigurationError, match="empty; it holds no key"):
        ApiKeys((), tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidConfigurationError, match="pipe is no regular file"):
        ApiKeys((), tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"k" * (api_keys.MAX_BYTES + 1))
    with pytest.raises(InvalidConfigurationError, match="large is larger"):
        ApiKeys((), tmp_path / "large")


def test_without_any_key_none_is_needed() -> None:
    assert not ApiKeys().are_needed
    assert ApiKeys(("k",)).are_needed


def test_a_file_that_is_emptied_lets_nobody_in_and_one_that_is_gone_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "POLL_SECONDS", 0.001)
    file = tmp_path / "keys"
    file.write_text("old")

    async def changes() -> None:
        keys = ApiKeys((), file)
        watching = asyncio.create_task(keys.watch())

        async def until(problem: str) -> None:
            while not any(problem in str(each.get("problem")) for each in told):
                await asyncio.sleep(0.001)

        file.unlink()
        await until("cannot be read")
        assert keys.name_of("old") == "keys"
        file.write_text("")
        await until("holds no key")
        assert keys.name_of("old") is None
        assert keys.are_needed
        file.write_text("new")
        while keys.name_of("new") is None:
            await asyncio.sleep(0.001)
        watching.cancel()

    with structlog.testing.capture_logs() as told:
        asyncio.run(changes())
    problems = [each for each in told if each["log_level"] == "error"]
    assert len(problems) == 2, "each is said once, however often it is seen"
    assert not any(secret in str(told) for secret in ("old'", "new'"))


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> SecretVolume:
    made = SecretVolume(tmp_path_factory.mktemp("keys") / "volume")
    made.publish(api="old-secret")
    return made


@pytest.fixture(scope="module")
def rotating(volume: SecretVolume) -> Iterator[ServerProcess]:
    with ServerProcess("--api-key-file", str(volume.folder)) as process:
        yield process.wait_ready()


def test_a_rotation_refuses_no_client_that_has_either_key(
    rotating: ServerProcess, volume: SecretVolume
) -> None:
    def status(key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.get(f"{rotating.url}/v1/models", headers=headers, timeout=60).status_code

    assert (status("old-secret"), status("new-secret")) == (200, 401)
    volume.publish(api="old-secret\nnew-secret")
    eventually(lambda: status("new-secret") == 200)
    assert status("old-secret") == 200
    volume.publish(api="new-secret")
    eventually(lambda: status("old-secret") == 401)
    assert status("new-secret") == 200
    changed = [line["names"] for line in rotating.log if line["event"] == "API keys changed"]
    assert changed == [["api", "api:2"], ["api"]]
    (ready,) = [line for line in rotating.log if line["event"] == "ready"]
    assert ready["has_api_key"] is True
    assert "secret" not in "".join(rotating.stderr)
