"""Set-up of all tests: none depends on how fast the machine is, on what is free of its disk, or on chance,
nor on who started it; and none leaves files behind.

Where `CI` is set, as hosted services do, hypothesis draws the same examples for the same tests, as its own
default profile does there: what a change broke is told apart from what another drawing found. Everywhere
else each run draws new ones.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores it, and so would each program that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("octavo", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("octavo")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # which xdist gives to the processes that it starts
        from tests.support.temporary_files import TemporaryFiles

        config.pluginmanager.register(TemporaryFiles())


@pytest.fixture(scope="session", autouse=True)
def full_disk() -> Iterator[None]:
    """Not a byte is free, whoever asks: what wants room fails on every machine, not on a full one alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(1, 1, 0))
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests are shared out by file; in the process that does so alone."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.support.scheduling import FolderScheduling

    return FolderScheduling(config, log)


def pytest_collection_finish() -> None:
    set_aside()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[Any]:
    result = yield
    if nextitem is not None and nextitem.path != item.path:
        set_aside()
    return result


def set_aside() -> None:
    """From the collector, what lives as long as the process: what was imported and collected, and what a file
    leaves in caches. Engines collect garbage when they start, as every executor of a GPU's path does, and
    would look through all of it each time: a second and more at the end of a run."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """So that libraries which tell at the end what is left find nothing."""
    gc.unfreeze()
