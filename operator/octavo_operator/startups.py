"""Start-ups. How far replicas that do not answer yet have come, as their own `/startupz` tells. Pure.

A pod's status says that a container runs, and no more: a download of an hour looks like one that hangs. What
the pods answer is kept here, per run of a container, until that run is over; who asks them is `ops_port`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from octavo_operator.manifest import ObjectKey
from octavo_operator.pods import PodView, Run
from octavo_operator.replicas import Fleet

PODS_OF_ONE_OBJECT = 3
"""How many starting pods of one object are asked, and told of, at a time."""

_WORDS = {
    "resolve": "downloading the model",
    "load": "loading weights",
    "compile": "compiling kernels",
    "profile": "measuring memory",
    "warmup": "warming up",
    "capture": "capturing CUDA graphs",
}
"""What is said of the phases that last. Nothing that a pod answers is repeated in its own words."""
_WITH_BYTES = frozenset({"resolve", "load"})
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

Count = Annotated[int, Field(ge=0, lt=2**63)]


class Phase(BaseModel):
    """One part of a start; bytes are 0 where it has none, or none yet."""

    model_config = ConfigDict(frozen=True)

    name: str
    seconds: Annotated[FiniteFloat, Field(ge=0)]
    done: bool
    bytes: Count = 0
    bytes_total: Count = 0


class StartupReport(BaseModel):
    """The answer of `/startupz`, of the serving container or of the one that downloads."""

    model_config = ConfigDict(frozen=True)

    started: bool
    phases: Annotated[tuple[Phase, ...], Field(max_length=64)]

    @property
    def current(self) -> Phase | None:
        """The phase that goes on."""
        return next((each for each in reversed(self.phases) if not each.done), None)


@dataclass(frozen=True, slots=True)
class Question:
    """A pod to be asked, and about which run of which of its containers."""

    key: ObjectKey
    pod: str
    run: Run


@dataclass(slots=True)
class _Told:
    """What is known of one run."""

    run: Run
    phase: Phase | None = None
    text: str = ""
    asked_at: int = 0


@dataclass(slots=True)
class Startups:
    """The starting pods of all objects, and what they told last.

    A restart forgets everything: the next answers are as good.
    """

    _told: dict[ObjectKey, dict[str, _Told]] = field(default_factory=dict)
    _round: int = 0

    def follow(self, key: ObjectKey, seen: Fleet) -> Fleet:
        """The same replicas with what their pods have told. From now on those are asked that start, and what
        a container told that has ended is forgotten."""
        before = self._told.pop(key, {})
        # Of a replica of several pods the first alone has an ops port.
        leaders = [each.leader for each in seen.current if not each.leader.is_ready]
        starting = [(pod.name, pod.run) for pod in leaders if pod.run is not None]
        after: dict[str, _Told] = {}
        for name, run in starting[:PODS_OF_ONE_OBJECT]:
            told = before.get(name)
            after[name] = told if told is not None and told.run == run else _Told(run)
        if not after:
            return seen
        self._told[key] = after
        return seen.with_pods(lambda pod: _with_progress(pod, after.get(pod.name)))

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._told.pop(key, None)

    def questions(self, limit: int) -> list[Question]:
        """At most so many pods to ask now; those first that were not asked for the longest."""
        self._round += 1
        every = [
            (told, Question(key, pod, told.run))
            for key, pods in self._told.items()
            for pod, told in pods.items()
        ]
        every.sort(key=lambda each: each[0].asked_at)
        for told, _ in every[:limit]:
            told.asked_at = self._round
        return [question for _, question in every[:limit]]

    def hear(self, question: Question, report: StartupReport) -> bool:
        """Keeps an answer; returns whether there is something new to say of the object."""
        told = self._told.get(question.key, {}).get(question.pod)
        if told is None or told.run != question.run:
            return False  # it ended meanwhile
        text = progress_text(told.phase, report)
        is_new = text != told.text
        told.phase, told.text = report.current, text
        return is_new


def progress_text(before: Phase | None, report: StartupReport) -> str:
    """What a pod is doing, as a person reads it; empty where the pod's status says as much.

    The speed is that since the phase was seen `before`, so that a download that stands still is one of
    0 B/s; at first sight it is the phase's mean.
    """
    phase = report.current
    if phase is None:
        return "started, not ready" if report.started else ""
    words = _WORDS.get(phase.name, "")
    if phase.name not in _WITH_BYTES:
        return words
    if phase.bytes_total == 0:
        return ""
    total = max(phase.bytes_total, phase.bytes)
    done, unit = _in_unit_of(total, phase.bytes)
    whole, _ = _in_unit_of(total, total)
    return f"{words}: {done} of {whole} {unit}, {_speed(before, phase)}"


def _speed(before: Phase | None, now: Phase) -> str:
    seconds, count = now.seconds, now.bytes
    is_same = before is not None and before.name == now.name
    if is_same and before is not None and before.seconds < seconds and before.bytes <= count:
        seconds, count = seconds - before.seconds, count - before.bytes
    per_second = round(count / max(seconds, 1e-3))
    number, unit = _in_unit_of(per_second, per_second)
    return f"{number} {unit}/s"


def _in_unit_of(scale: int, count: int) -> tuple[str, str]:
    """`count` in the unit in which `scale` is at least 1: three digits or one behind the point."""
    power = min((max(scale, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    number = count / 1024**power
    is_whole = power == 0 or number >= 100
    return f"{number:.0f}" if is_whole else f"{number:.1f}", _UNITS[power]


def _with_progress(pod: PodView, told: _Told | None) -> PodView:
    return pod if told is None or not told.text else replace(pod, progress=told.text)
