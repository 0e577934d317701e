"""Files of tests go out whole: the long ones first, then those with most tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.scheduling import LONG, SHARING, FolderScheduling

ROOT = Path(__file__).parents[1]


class Process:
    """One that is sent tests by their places, as xdist's own are."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.sent: list[int] = []

    def send_runtest_some(self, places: list[int]) -> None:
        self.sent += places

    def shutdown(self) -> None:
        self.shutting_down = True


def test_the_long_files_come_first_and_a_folder_stays_together(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytestconfig.option, "tx", ["2*popen"])
    monkeypatch.setattr(pytestconfig.option, "maxprocesses", None)
    monkeypatch.setattr(pytestconfig.option, "loadscopereorder", True)
    many = [f"tests/test_many.py::test_{number}" for number in range(9)]
    folder = [f"{SHARING[0]}test_{number}.py::test" for number in range(4)]
    long = [f"{LONG[1]}::test", f"{LONG[0]}::test"]
    collected = [*many, *long, *folder, "tests/test_few.py::test"]
    first, second = processes = [Process("first"), Process("second")]
    scheduling = FolderScheduling(pytestconfig)
    for process in processes:
        scheduling.add_node(process)
    for process in processes:
        scheduling.add_node_collection(process, collected)
    scheduling.schedule()
    assert [collected[place] for place in first.sent] == folder
    assert [collected[place] for place in second.sent] == [long[1], long[0]]
    assert list(scheduling.workqueue) == ["tests/test_many.py", "tests/test_few.py"]


def test_what_goes_first_is_there() -> None:
    missing = [path for path in (*SHARING, *LONG) if not (ROOT / path).exists()]
    assert missing == [], "renamed? then rename it in tests/support/scheduling.py"
