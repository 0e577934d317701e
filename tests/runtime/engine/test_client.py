"""The real engine process behind its client: what passes between them, and what happens when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest

from octavo.config import EngineConfig
from octavo.engine.client import FOLDER_PREFIX, EngineClient
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.engine.requests.request_stream import RequestStream
from octavo.errors import (
    ContextLengthExceededError,
    EngineDeadError,
    InvalidParameterError,
    ModelInvalidError,
    ModelUnsupportedError,
)
from octavo.outputs import FinishReason
from octavo.owned_folder import OwnedFolder
from octavo.sampling_params import SamplingParams
from tests.support.runtime.faulty_server import Faults

T = TypeVar("T")


@pytest.fixture(scope="module")
def folder(tiny_llama: Any) -> Path:
    folder: Path = tiny_llama.folder
    return folder


def make_config(folder: Path) -> EngineConfig:
    return EngineConfig(
        model=str(folder), dtype="float32", kv_cache_memory_bytes=4 * 2**20, max_num_seqs=16
    )


class Session:
    """One engine, and the loop that its client lives on."""

    def __init__(self, config: EngineConfig, folder: Path) -> None:
        self.faults = Faults(folder)
        self.phases: list[str] = []
        self.runner = asyncio.Runner()
        with mock.patch.dict(os.environ, self.faults.environment):
            self.client = self.run(EngineClient.start(config, self.phases.append))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(_bounded(work))

    def close(self) -> None:
        self.run(self.client.shutdown(5))
        self.runner.close()


async def _bounded(work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(120):
        return await work


@pytest.fixture(scope="module")
def session(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch:
        # What whoever runs the tests says of waiting is not for this engine.
        for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
            patch.delenv(name, raising=False)
        session = Session(make_config(folder), tmp_path_factory.mktemp("faults"))
    yield session
    session.close()


@pytest.fixture
def own_session(folder: Path, tmp_path: Path) -> Iterator[Session]:
    """For tests that end the engine."""
    session = Session(make_config(folder), tmp_path)
    yield session
    session.close()


def test_a_ping_that_is_cancelled_as_its_answer_comes_is_cancelled(session: Session) -> None:
    """Else whoever pings for ever, as the server's watch does, would outlive its end."""

    async def cancelled_with_the_answer() -> bool:
        client = session.client
        task = asyncio.create_task(client.ping(60))
        while not client._pings:
            await asyncio.sleep(0)
        (future,) = client._pings.values()
        future.set_result(client.stats)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert session.run(cancelled_with_the_answer())


def make_request(name: str, prompt: list[int] | None = None, **sampling: Any) -> AddRequest:
    params = SamplingParams(
        **{"temperature": 0.0, "max_tokens": 20, "ignore_eos": True, **sampling}
    )
    return AddRequest(name, prompt or [5, 6, 7], params)


def test_the_engine_process_is_told_to_spin_briefly(session: Session) -> None:
    """Before torch is loaded; see `octavo.openmp`."""
    variables = Path(f"/proc/{session.client.pid}/environ").read_bytes().split(b"\0")
    assert b"GOMP_SPINCOUNT=4000" in variables


async def read_all(stream: RequestStream) -> list[TokenOutput]:
    outputs = []
    while new := await stream.get():
        outputs += new
    return outputs


def tokens_of(outputs: list[TokenOutput], index: int = 0) -> list[int]:
    return [token for output in outputs if output.index == index for token in output.new_token_ids]


async def until_idle(client: EngineClient) -> None:
    while (stats := await client.ping(60)).kv_blocks_used or stats.num_running or stats.num_waiting:
        await asyncio.sleep(0.01)


def test_start_reports_phases_and_what_the_engine_settled_on(session: Session) -> None:
    assert session.phases[0] == "import"
    assert "load" in session.phases
    info = session.client.info
    assert (info.max_model_len, info.block_size, info.device) == (256, 16, "cpu")
    assert info.num_kv_blocks > 0


def test_concurrent_requests_each_get_their_own_tokens(session: Session, tiny_llama: Any) -> None:
    prompts = [[length + 1] * length for length in (1, 4, 9, 20)]

    async def run_all() -> list[list[TokenOutput]]:
        streams = [
            await session.client.add(make_request(f"c{position}", prompt))
            for position, prompt in enumerate(prompts)
        ]
        return await asyncio.gather(*map(read_all, streams))

    results = session.run(run_all())
    assert [tokens_of(outputs) for outputs in results] == [
        tiny_llama.greedy(prompt, 20, ignore_eos=True) for prompt in prompts
    ]
    assert all(outputs[-1].finish_reason is FinishReason.LENGTH for outputs in results)
    assert all(outputs[0].first_scheduled_time is not None for outputs in results)


def test_the_stats_follow_every_step(session: Session) -> None:
    async def run() -> tuple[int, int]:
        before = session.client.stats.generation_tokens_total
        await read_all(await session.client.add(make_request("s")))
        return before, session.client.stats.generation_tokens_total

    before, after = session.run(run())
    assert after == before + 20


def test_what_was_sent_is_never_out_of_sight(session: Session) -> None:
    """The queue's bound and the autoscaler count it, also while a step runs that began before it was sent."""
    client, streams = session.client, []

    async def run() -> None:
        for number in range(3):
            streams.append(await client.add(make_request(f"sight{number}", max_tokens=250)))
            first = client.num_messages
            while client.num_messages < first + 3:
                stats = client.stats
                known = stats.num_running + stats.num_waiting + client.num_under_way
                assert known == len(streams)
                await asyncio.sleep(0)
        for stream in streams:
            stream.close()
        await until_idle(client)

    with session.faults.slow_steps():
        session.run(run())


def test_leaving_a_stream_early_frees_its_blocks(session: Session) -> None:
    async def leave() -> int:
        async with await session.client.add(make_request("leave", max_tokens=250)) as stream:
            await stream.get()
        await until_idle(session.client)
        return session.client.stats.generation_tokens_total

    before = session.client.stats.generation_tokens_total
    with session.faults.slow_steps():
        assert session.run(leave()) - before < 250


def test_one_completion_can_be_ended_alone(session: Session) -> None:
    async def run() -> list[TokenOutput]:
        with session.faults.slow_steps():
            stream = await session.client.add(make_request("n", n=2, max_tokens=200))
            outputs = await stream.get()
            session.client.abort(["n"], [1])
            await session.client.ping(60)  # answered after what was sent before it
        return outputs + await read_all(stream)

    outputs = session.run(run())
    assert len(tokens_of(outputs, 0)) == 200
    assert len(tokens_of(outputs, 1)) < 200
    assert [output.index for output in outputs if output.finish_reason] == [0]


def test_a_reader_that_is_cancelled_from_outside_ends(session: Session) -> None:
    async def run() -> list[TokenOutput]:
        stream = await session.client.add(make_request("cancel", max_tokens=250))
        reader = asyncio.create_task(read_all(stream))
        while not session.client.stats.num_running:
            await asyncio.sleep(0.005)
        stream.close()
        outputs = await reader
        await until_idle(session.client)
        return outputs

    with session.faults.slow_steps():
        assert len(session.run(run())) < 250


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    ("prompt", "kind", "words"),
    [
        ([1] * 256, ContextLengthExceededError, "has 256 tokens, but the context holds 256"),
        ([1, 10**6], InvalidParameterError, "token id 1000000, at place 1 of 2"),
    ],
)
def test_what_the_engine_refuses_arrives_as_the_refusal_that_it_is(
    session: Session, prompt: list[int], kind: type[InvalidParameterError], words: str, n: int
) -> None:
    async def run() -> list[TokenOutput]:
        return await read_all(await session.client.add(make_request("refused", prompt, n=n)))

    with pytest.raises(InvalidParameterError, match=words) as refused:
        session.run(run())
    assert type(refused.value) is kind
    assert refused.value.parameter == "prompt"


def test_an_idle_engine_uses_no_cpu(session: Session) -> None:
    session.run(until_idle(session.client))
    before, began = _cpu_seconds(session.client.pid), time.monotonic()
    time.sleep(1.0)
    assert _cpu_seconds(session.client.pid) - before <= 0.02 * (time.monotonic() - began)


def test_signals_to_the_process_group_do_not_end_the_engine(session: Session) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(session.client.pid, number)
    assert session.run(session.client.ping(60)).kv_blocks_total > 0


def test_the_socket_is_private(session: Session) -> None:
    assert session.client._folder.path.stat().st_mode & 0o777 == 0o700


def test_a_killed_engine_fails_its_requests_at_once(own_session: Session) -> None:
    client = own_session.client

    async def run() -> None:
        stream = await client.add(make_request("dead", max_tokens=250))
        await stream.get()
        os.kill(client.pid, signal.SIGKILL)
        with pytest.raises(EngineDeadError, match="ended by SIGKILL"):
            await read_all(stream)
        with pytest.raises(EngineDeadError):
            await client.add(make_request("after"))
        with pytest.raises(EngineDeadError):
            await client.ping(5)
        assert "SIGKILL" in str(await client.wait_for_death())

    with own_session.faults.slow_steps():
        own_session.run(run())
    assert not client.is_alive


def test_shutdown_ends_the_process_and_removes_the_socket(own_session: Session) -> None:
    client = own_session.client

    async def run() -> int | None:
        stream = await client.add(make_request("cut", max_tokens=250))
        await stream.get()
        await client.shutdown(60)
        with pytest.raises(EngineDeadError):
            await read_all(stream)
        return client._process.returncode

    with own_session.faults.slow_steps():
        assert own_session.run(run()) == 0
    assert not client._folder.path.exists()


def test_a_start_that_fails_raises_the_reason(folder: Path, tmp_path: Path) -> None:
    config = (folder / "config.json").read_text("utf-8")
    (tmp_path / "config.json").write_text(
        config.replace("LlamaForCausalLM", "UnheardOfForCausalLM").replace(
            '"llama"', '"unheard_of"'
        )
    )
    with pytest.raises(ModelUnsupportedError, match="UnheardOf"):
        asyncio.run(EngineClient.start(make_config(tmp_path)))
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelInvalidError, match="safetensors"):
        asyncio.run(EngineClient.start(make_config(tmp_path)))


def test_an_engine_that_ends_while_it_is_to_be_killed_is_shut_down_as_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> Path:
        folder = OwnedFolder(FOLDER_PREFIX)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        client = EngineClient(process, folder, None, None)
        await client._watcher
        monkeypatch.setattr(process, "wait", asyncio.Event().wait)  # the loop tells of it too late
        await client.shutdown(timeout=0.0)
        return folder.path

    assert not asyncio.run(run()).exists()


_PARENT = """
import asyncio, sys
from octavo.config import EngineConfig
from octavo.engine.client import EngineClient

async def main():
    client = await EngineClient.start(
        EngineConfig(model=sys.argv[1], dtype="float32", kv_cache_memory_bytes=4 * 2**20)
    )
    print(client.pid, client._folder.path, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_engine_ends_with_its_parent_though_it_is_stopped(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(folder)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        engine = int(pid)
        assert _is_running(engine)
        os.kill(engine, signal.SIGSTOP)
        parent.kill()
    deadline = time.monotonic() + 60
    try:
        while _is_running(engine):
            assert time.monotonic() < deadline, "the engine outlived its parent"
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine, signal.SIGKILL)
    assert not Path(directory).exists()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
