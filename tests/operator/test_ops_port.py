"""Pods that are asked over HTTP: what they answer counts, whatever else they do does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from octavo_operator.ops_port import OpsPort, startupz_url
from octavo_operator.startups import Startups
from tests.support.operator.builders import KEY, container, pod, seen
from tests.support.operator.starting_pod import GIB, StartingPod, report

LOADING = report("load", 4.0, GIB, 4 * GIB)
SAID = "loading weights: 1.0 of 4.0 GiB, 256 MiB/s"


@pytest.fixture
def starting() -> Iterator[StartingPod]:
    with StartingPod() as made:
        yield made


def asked(address: str, startups: Startups, timeout_seconds: float = 30.0) -> list[str]:
    """What is said of the one pod after it was asked."""
    made = pod(statuses=[container(running=True)])
    made["status"]["podIPs"] = [{"ip": address}]
    startups.follow(KEY, seen([made]))
    asyncio.run(OpsPort(timeout_seconds).ask(startups))
    return startups.follow(KEY, seen([made])).progress_texts()


def test_a_pod_that_starts_tells_how_far_it_is(starting: StartingPod) -> None:
    starting.says(LOADING)
    assert asked(starting.address, Startups()) == [SAID]
    assert starting.asked == ["/startupz"]


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {}, json.dumps(LOADING).encode()),
        (302, {"Location": "/startupz"}, b""),
        (503, {}, b"<html>"),
        (503, {}, b"[" * 9000),
        (503, {}, json.dumps(LOADING | {"more": "x" * 20_000}).encode()),
        (503, {}, json.dumps(report("load", -1.0, GIB, 4 * GIB)).encode()),
        (503, {}, json.dumps(report("load", 1.0, GIB, 2**70)).encode()),
        (503, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
    ],
    ids=["error", "redirect", "text", "deep", "long", "negative", "huge", "packed"],
)
def test_what_is_no_answer_leaves_what_was_said_for_one_pass(
    starting: StartingPod, status: int, headers: dict[str, str], body: bytes
) -> None:
    startups = Startups()
    starting.says(LOADING)
    assert asked(starting.address, startups) == [SAID]
    starting.status, starting.headers, starting.answer = status, headers, body
    assert asked(starting.address, startups) == [SAID]
    assert asked(starting.address, startups) == []
    assert starting.asked == ["/startupz"] * 3


def test_a_pod_that_does_not_answer_in_time_has_told_nothing(starting: StartingPod) -> None:
    starting.answer = None
    assert asked(starting.address, Startups(), timeout_seconds=0.2) == []


def test_a_pod_that_cannot_be_reached_has_told_nothing() -> None:
    with StartingPod() as gone:
        pass
    assert asked(gone.address, Startups()) == []


def test_addresses_of_both_families_are_asked() -> None:
    assert startupz_url("10.0.0.1") == "http://10.0.0.1:8001/startupz"
    assert startupz_url("fd00::1") == "http://[fd00::1]:8001/startupz"
