"""Follower: a rank but the first, as its process drives it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import torch

from octavo.errors import OctavoError
from octavo.loading.adapter import read_adapter
from octavo.models.adapters import ModelAdapters
from octavo.models.base import CausalLM, Encoder
from octavo.sleep_level import SleepLevel
from octavo.worker.cpu.encoder import EncoderRunner
from octavo.worker.cpu.runner import ModelRunner
from octavo.worker.gpu.following import FollowingRunner
from octavo.worker.gpu.prepare import Prepared
from octavo.worker.ranks.device_watch import DeviceWatch, FaultWatch
from octavo.worker.ranks.messages import LOAD_SECONDS
from octavo.worker.ranks.step_frames import unpack_step
from octavo.worker.wakeable import Wakeable

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """Does what the first rank does, with its own part of the model."""

    def step(self, payload: bytes) -> None:
        """Of `Kind.STEP`."""
        ...

    def sleep(self, level: SleepLevel) -> None: ...

    def wake_up(self) -> None: ...

    def add_adapter(self, adapter_id: int, folder: str) -> bool:
        """Whether it has it now."""
        ...

    def remove_adapter(self, adapter_id: int) -> None: ...


class HostFollower:
    """On a CPU.

    Args:
        adapters: Of the model; None: it takes none.
    """

    def __init__(
        self, loaded: Wakeable[CausalLM, ModelRunner], adapters: ModelAdapters | None = None
    ) -> None:
        self._loaded = loaded
        self._adapters = adapters

    def step(self, payload: bytes) -> None:
        entries, copies = unpack_step(payload)
        runner = self._loaded.runner
        with torch.inference_mode():
            runner.copy_blocks(copies)
            result = runner.run(entries)
            if result.scored is not None:
                for _ in runner.score(result.scored):
                    pass  # the first rank has what was gathered

    def sleep(self, level: SleepLevel) -> None:
        self._loaded.sleep(level)

    def wake_up(self) -> None:
        self._loaded.wake_up()

    @torch.inference_mode()
    def add_adapter(self, adapter_id: int, folder: str) -> bool:
        return add_to(self._adapters, adapter_id, folder)

    def remove_adapter(self, adapter_id: int) -> None:
        if self._adapters is not None:
            self._adapters.remove(adapter_id)


class EncodingFollower:
    """Of an encoder, on a CPU."""

    def __init__(self, loaded: Wakeable[Encoder, EncoderRunner]) -> None:
        self._loaded = loaded

    def step(self, payload: bytes) -> None:
        entries, _ = unpack_step(payload)
        self._loaded.runner.run(entries)

    def sleep(self, level: SleepLevel) -> None:
        self._loaded.sleep(level)

    def wake_up(self) -> None:
        self._loaded.wake_up()

    def add_adapter(self, adapter_id: int, folder: str) -> bool:
        return False  # encoders take none

    def remove_adapter(self, adapter_id: int) -> None:
        pass


class GpuFollower:
    """On a GPU.

    Args:
        watch: Over its waits for others.
        faults: Asks the GPU; None: there is none to ask.
    """

    def __init__(
        self,
        prepared: Prepared[FollowingRunner],
        watch: DeviceWatch,
        faults: FaultWatch | None,
        adapters: ModelAdapters | None = None,
    ) -> None:
        self._prepared = prepared
        self._watch = watch
        self._faults = faults
        self._adapters = adapters

    def step(self, payload: bytes) -> None:
        with self._watch.over():
            self._prepared.loaded.runner.follow(payload)
        if self._faults is not None:
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
            self._faults.follow(done)

    def sleep(self, level: SleepLevel) -> None:
        self._prepared.loaded.sleep(level)
        torch.cuda.empty_cache()

    def wake_up(self) -> None:
        with self._watch.over(LOAD_SECONDS):
            self._prepared.loaded.wake_up()
            self._prepared.record(self._prepared.loaded.runner)

    def add_adapter(self, adapter_id: int, folder: str) -> bool:
        return add_to(self._adapters, adapter_id, folder)

    def remove_adapter(self, adapter_id: int) -> None:
        if self._adapters is not None:
            self._adapters.remove(adapter_id)


def add_to(adapters: ModelAdapters | None, adapter_id: int, folder: str) -> bool:
    """Whether they have it now; the log says why not."""
    if adapters is None:
        return False
    try:
        adapters.add(adapter_id, read_adapter(Path(folder)))
    except OctavoError as error:
        logger.warning("%s", error)
        return False
    return True
