"""Commands, called; that each is a process, too, is shown where it does its work."""

from __future__ import annotations

import pytest

from tests.support.runtime.called_command import Called, caller


@pytest.fixture
def octavo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    return caller(monkeypatch, capsys)
