"""Kernels are compiled by processes of their own while a GPU's weights are read, and nothing hangs on it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from octavo.config import EngineConfig
from octavo.worker import machine
from octavo.worker.compile_ahead.absent_gpu import absent_gpu
from octavo.worker.compile_ahead.ahead import (
    CompileRequest,
    CompilingAhead,
    compiling_ahead,
    is_complete,
    launch,
    list_of_forms,
)
from octavo.worker.compile_ahead.process import AbandonedError, Outcome, compile_forms
from octavo.worker.compile_ahead.rehearsal import rehearse
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.gpu_shapes import H100, SHAPES, shape_of

needs_module(Requirement.TRITON)

from octavo.kernels.gpu.compiling import forms
from tests.support.kernels.kept_binaries import kept_binaries, kept_folder


@dataclass
class FormThat:
    """In place of a kernel's form, to go wrong as one."""

    does: str
    folder: Path = Path()
    name: str = "kernel"

    def compile_into_cache(self) -> Path:
        match self.does:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fails":
                raise ValueError("no such layout")
            case "lasts":
                time.sleep(0.3)
            case "meets":
                (self.folder / str(os.getpid())).touch()
                while len(list(self.folder.iterdir())) < 2:
                    time.sleep(0.01)
        return Path(str(os.getpid()))


@pytest.fixture
def life() -> Iterator[tuple[int, int]]:
    """Both ends of the pipe that says whether anybody waits."""
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        try:
            os.close(end)
        except OSError:
            continue


def compile_all(several: Sequence[Any], num_workers: int, life: int) -> list[Outcome]:
    return sorted(
        compile_forms(several, num_workers, life),
        key=lambda outcome: outcome.index,
    )


def test_forms_are_shared_out_and_one_that_fails_or_kills_its_worker_is_alone(
    life: tuple[int, int], tmp_path: Path
) -> None:
    several = [FormThat(does, tmp_path) for does in ("fails", "dies", *["meets"] * 6)]
    outcomes = compile_all(several, 4, life[0])
    assert [outcome.index for outcome in outcomes] == [0, 2, 3, 4, 5, 6, 7]
    assert outcomes[0].error == "ValueError: no such layout"
    assert outcomes[0].file == ""
    workers = {outcome.file for outcome in outcomes[1:]}
    assert 1 < len(workers) <= 3  # of four, one of which died
    assert str(os.getpid()) not in workers


def test_workers_end_when_nobody_waits_any_more(life: tuple[int, int]) -> None:
    os.close(life[1])
    with pytest.raises(AbandonedError):  # long before the ten minutes that all of them last
        compile_all([FormThat("lasts") for _ in range(4000)], 2, life[0])


@pytest.fixture
def request_for_llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompileRequest:
    monkeypatch.setattr(machine, "available_cpus", lambda: 3)
    shape_of(SHAPES["llama-3.1-8b"], tmp_path)
    return CompileRequest(
        config=EngineConfig(model=str(tmp_path), max_num_seqs=8, max_num_batched_tokens=64),
        dtype="bfloat16",
        capability=90,
        num_multiprocessors=132,
        num_workers=2,
    )


@pytest.mark.timeout(600)
def test_all_that_a_start_up_launches_is_compiled_once(
    request_for_llama: CompileRequest,
    life: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the binaries that the tests keep: only what has changed is compiled here."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(kept_folder()))
    monkeypatch.setenv("TRITON_STORE_BINARY_ONLY", "1")
    caplog.set_level(logging.INFO)
    config = request_for_llama.config
    shape = shape_of(SHAPES["llama-3.1-8b"], tmp_path)
    kept = list_of_forms(request_for_llama, shape)
    kept.unlink(missing_ok=True)
    with absent_gpu(H100) as device:
        with compiling_ahead(config, shape, torch.bfloat16, device) as ahead:
            assert ahead is not None
            ahead.wait(500)
        with compiling_ahead(config, shape, torch.bfloat16, device) as again:
            assert again is None
    assert "Left to warm-up" not in caplog.text
    files = msgspec.json.decode(kept.read_bytes(), type=list[str])
    assert len(files) > 20
    assert all((kept_folder() / file).is_file() for file in files)
    assert not is_complete(kept.with_name("other.json"))
    kept.write_bytes(msgspec.json.encode([*files, "gone/kernel.json"]))
    assert not is_complete(kept)
    # A second rehearsal wants the same, and finds all of it; what is compiled does not hide a launch.
    wanted = rehearse(config, shape, torch.bfloat16, H100)
    with forms.absent_driver(90), kept_binaries():
        wanted[0].compile()
        outcomes = compile_all(wanted, 2, life[0])
    assert rehearse(config, shape, torch.bfloat16, H100) == wanted
    assert [outcome.file for outcome in outcomes if outcome.was_compiled] == []
    assert {outcome.file for outcome in outcomes} == set(files)


@pytest.mark.parametrize("cpus", [1, 2])
def test_few_cores_are_left_to_the_weights(
    cpus: int, request_for_llama: CompileRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_cpus", lambda: cpus)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "empty"))
    shape = shape_of(SHAPES["llama-3.1-8b"], tmp_path)
    device = torch.device("cuda", 0)
    with compiling_ahead(request_for_llama.config, shape, torch.bfloat16, device) as ahead:
        assert ahead is None


def test_what_decides_the_forms_names_the_list(
    request_for_llama: CompileRequest, tmp_path: Path
) -> None:
    shape = shape_of(SHAPES["llama-3.1-8b"], tmp_path)
    first = list_of_forms(request_for_llama, shape)
    replace = msgspec.structs.replace
    assert list_of_forms(replace(request_for_llama, num_workers=7), shape) == first
    other_shape = shape_of(SHAPES["qwen3-0.6b"], tmp_path)
    others = {
        list_of_forms(replace(request_for_llama, capability=80), shape),
        list_of_forms(replace(request_for_llama, num_multiprocessors=114), shape),
        list_of_forms(replace(request_for_llama, dtype="float16"), shape),
        list_of_forms(request_for_llama, other_shape),
    }
    assert len(others | {first}) == 5


def program(folder: Path, text: str) -> str:
    """In place of the Python interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def running_as(
    text: str, request: CompileRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> CompilingAhead:
    monkeypatch.setattr(sys, "executable", program(folder, text))
    return launch(request, folder / "lists" / "list.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'ModuleNotFoundError: no torch' >&2; exit 1", "status 1: ModuleNotFoundError"),
        ("kill -9 $$", "status -9: it said nothing"),
        ("exit 0", "warm-up compiles them"),
        ("echo nonsense", "warm-up compiles them"),
        ("exec sleep 60", "warm-up compiles what is missing"),
    ],
    ids=["fails", "killed", "silent", "nonsense", "stuck"],
)
def test_a_process_that_does_not_do_its_work_costs_a_line_in_the_log(
    text: str,
    said: str,
    request_for_llama: CompileRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = running_as(text, request_for_llama, tmp_path, monkeypatch)
    running.wait(patience_seconds=0.5)
    running.end()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert said in caplog.text
    assert not is_complete(tmp_path / "lists" / "list.json")


def test_a_form_that_failed_is_named_and_nothing_is_called_complete(
    request_for_llama: CompileRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    answer = 'echo a warning; echo \'{"files": ["a/b.json"], "failures": ["_decode (no space)"]}\''
    running = running_as(answer, request_for_llama, tmp_path, monkeypatch)
    running.wait()
    running.end()
    assert "Left to warm-up: _decode (no space)" in caplog.text
    assert not (tmp_path / "lists").exists()


def test_a_start_that_fails_leaves_no_process(
    request_for_llama: CompileRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "executable", program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    )
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    shape = shape_of(SHAPES["llama-3.1-8b"], tmp_path)
    pid = tmp_path / "pid"

    def load() -> None:
        while not (pid.exists() and pid.read_text().endswith("\n")):
            time.sleep(0.01)
        raise RuntimeError("weights")

    with (
        pytest.raises(RuntimeError, match="weights"),
        absent_gpu(H100) as device,
        compiling_ahead(request_for_llama.config, shape, torch.bfloat16, device),
    ):
        load()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_changed_triton_costs_a_line_in_the_log(
    request_for_llama: CompileRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone() -> Path:
        raise AttributeError("dir")

    monkeypatch.setattr(forms, "cache_folder", gone)
    shape = shape_of(SHAPES["llama-3.1-8b"], tmp_path)
    with (
        absent_gpu(H100) as device,
        compiling_ahead(request_for_llama.config, shape, torch.bfloat16, device) as ahead,
    ):
        assert ahead is None
    assert "warm-up compiles them" in caplog.text
