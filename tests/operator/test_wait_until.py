"""Waiting of the tests on an API server: it ends when it must, whatever the look itself waits for."""

from __future__ import annotations

import threading

import pytest

from tests.support.operator.admin import wait_until


def test_a_look_that_never_comes_back_ends_the_waiting_and_is_named() -> None:
    release = threading.Event()

    def hangs() -> bool:
        return release.wait()

    try:
        with pytest.raises(TimeoutError, match=r"not true within 0\.2 s(.|\n)*in hangs"):
            wait_until(hangs, 0.2)
    finally:
        release.set()


def test_it_looks_until_it_is_true_and_hands_on_what_a_look_raises() -> None:
    looks = iter([False, 0, "yes"])
    wait_until(lambda: next(looks))
    assert next(looks, None) is None

    def breaks() -> bool:
        raise KeyError("status")

    with pytest.raises(KeyError, match="status"):
        wait_until(breaks)
    with pytest.raises(TimeoutError, match=r"not true within 0\.2 s"):
        wait_until(lambda: False, 0.2)
