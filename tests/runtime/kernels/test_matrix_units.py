"""Whether a process may use AMX; Linux is asked through a function that tests replace."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import pytest

from octavo.errors import InvalidConfigurationError
from octavo.kernels import matrix_units
from octavo.kernels.matrix_units import is_granted, is_switched_on, may_use_matrix_units
from octavo.kernels.numba_setup import cpu_flags

_TILE_DATA = 1 << 18


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    may_use_matrix_units.cache_clear()
    yield
    may_use_matrix_units.cache_clear()


def linux(granted: int | None, *, answers: int = 0) -> Callable[[int, int], int]:
    """`granted` are the features that a process has afterwards; None: the kernel knows no such request."""

    def arch_prctl(code: int, argument: int) -> int:
        if code == 0x1023 and granted is not None:
            assert argument == 18
            return 0
        if code == 0x1022 and granted is not None and answers == 0:
            ctypes.c_uint64.from_address(argument).value = granted
            return 0
        return -1

    return arch_prctl


def test_what_linux_grants_is_read_back() -> None:
    assert is_granted(linux(0x602E7))
    assert not is_granted(linux(0x602E7 & ~_TILE_DATA))
    assert not is_granted(linux(0x602E7, answers=-1))
    assert not is_granted(linux(None))


def test_linux_grants_no_amx_to_a_cpu_without() -> None:
    """The system call itself."""
    if "amx_tile" in cpu_flags():
        pytest.skip("a CPU with AMX")
    assert not is_granted(matrix_units._arch_prctl)


@pytest.mark.parametrize(("value", "expected"), [("", True), ("1", True), ("0", False)])
def test_the_switch_turns_amx_off(value: str, expected: bool) -> None:
    assert is_switched_on({"OCTAVO_AMX": value}) is expected
    assert is_switched_on({})


def test_any_other_value_is_refused() -> None:
    with pytest.raises(InvalidConfigurationError, match="OCTAVO_AMX is 'off'; it takes 1"):
        is_switched_on({"OCTAVO_AMX": "off"})


def test_a_refusal_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OCTAVO_AMX", raising=False)
    monkeypatch.setattr(matrix_units, "has_matrix_units", lambda: True)
    monkeypatch.setattr(matrix_units, "_arch_prctl", linux(None))
    assert [may_use_matrix_units() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    assert "ARCH_REQ_XCOMP_PERM" in caplog.text


@pytest.mark.parametrize("value", ["0", "1"])
def test_what_is_switched_off_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    asked: list[int] = []
    granted = linux(0x602E7)

    def watched(code: int, argument: int) -> int:
        asked.append(code)
        return granted(code, argument)

    monkeypatch.setenv("OCTAVO_AMX", value)
    monkeypatch.setattr(matrix_units, "has_matrix_units", lambda: True)
    monkeypatch.setattr(matrix_units, "_arch_prctl", watched)
    assert may_use_matrix_units() is (value == "1")
    assert bool(asked) is (value == "1")


def test_a_cpu_without_amx_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_units, "has_matrix_units", lambda: False)
    monkeypatch.setattr(matrix_units, "_arch_prctl", None)
    assert not may_use_matrix_units()
