from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.errors import DownloadFailedError, EngineDeadError, ModelNotFoundError
from octavo.server.process.failure import fail
from octavo.server.process.memory_limit import count_oom_kills
from octavo.server.process.run import _explain
from octavo.server.process.termination import MAX_BYTES, encode_termination, write_termination


@pytest.mark.parametrize(
    "message", ["short", "x" * 10_000, "é" * 5000, '"\\\n' * 3000, "\0" * 4000]
)
def test_last_words_are_valid_json_of_4_kib_at_most(message: str) -> None:
    encoded = encode_termination("OutOfMemory", message)
    assert len(encoded) <= MAX_BYTES
    document = json.loads(encoded)
    assert document["reason"] == "OutOfMemory"
    shown = document["message"].removesuffix("…")
    assert message.startswith(shown)
    assert len(encoded) > MAX_BYTES - 64 or shown == message


def test_a_path_that_cannot_be_written_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(tmp_path / "no" / "folder"))
    write_termination("InternalError", "message")


def test_exit_status_tells_whose_error_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(path))
    assert fail(ModelNotFoundError("no\nmodel")) == 3
    assert capsys.readouterr().err == "octavo: ModelNotFound: no model\n"
    assert fail(DownloadFailedError("no network")) == 1
    assert json.loads(path.read_text()) == {"reason": "DownloadFailed", "message": "no network"}
    assert fail(KeyError("bug")) == 1
    assert json.loads(path.read_text())["reason"] == "InternalError"


@pytest.mark.parametrize(
    ("name", "text", "kills"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n", 1),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0),  # before Linux 4.13
        ("other", "oom_kill 9\n", 0),
    ],
)
def test_the_kernel_is_asked_what_it_killed(
    tmp_path: Path, name: str, text: str, kills: int
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert count_oom_kills(tmp_path) == kills


def test_the_container_limit_is_told_from_other_deaths() -> None:
    death = EngineDeadError("The engine process was ended by SIGKILL.")
    assert _explain(death, was_oom_killed=True).reason == "OutOfMemory"
    other = _explain(death, was_oom_killed=False)
    assert (other.reason, str(other)) == ("InternalError", str(death))
