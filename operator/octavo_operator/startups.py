"""Start-ups. How far replicas that do not answer yet have come, as their own `/startupz` tells. Pure.

A pod's status says that a container runs, and no more: a download of an hour looks like one that hangs. What
the pods answer is kept here, per run of a container, until that run is over; who asks them is `ops_port`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from octavo_operator.manifest import ObjectKey
from octavo_operator.names import FETCH_DRAFT_CONTAINER, SERVE_CONTAINER
from octavo_operator.pods import Run
from octavo_operator.replicas import Fleet

PODS_OF_ONE_OBJECT = 3
"""How many starting pods of one object are asked, and told of, at a time."""

PASSES_OF_AN_ANSWER = 2
"""For how many passes over its object an answer holds: what a pod that hangs told before, how far it is and
how fast, is not so any more."""

_WORDS = {
    "resolve": "downloading the model",
    "load": "loading weights",
    "compile": "compiling kernels",
    "profile": "measuring memory",
    "warmup": "warming up",
    "capture": "capturing CUDA graphs",
}
"""What is said of the phases that last. Nothing that a pod answers is repeated in its own words."""
_OF_DRAFT = "downloading the draft model"
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
    commit: Annotated[str, Field(pattern="^([0-9a-f]{40})?$")] = ""
    """Of a hub's model; empty where it is not known."""
    content: Annotated[str, Field(pattern="^([0-9a-f]{16})?$")] = ""
    """A digest of another model's files; empty where it is not known."""
    adapters: Count | None = None
    """LoRA adapters that requests may have; None where a server takes none, or does not tell."""
    adapters_content: Annotated[str, Field(pattern="^([0-9a-f]{16})?$")] = ""
    """A digest of their names and files."""
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
    asked: int = 0
    """As which of all questions; 0: never."""
    heard: int = 0
    """In which of the passes of its object."""


@dataclass(slots=True)
class _Starting:
    """The starting pods of one object, by their names."""

    pods: dict[str, _Told]
    asked: int = 0
    """As which of all questions one of them was asked last."""
    passes: int = 0
    """How many of those that asked some of them are over."""

    def shown(self) -> dict[str, str]:
        """What is told of the pods: by those that answered last, and not long ago."""
        fresh = (
            (name, pod)
            for name, pod in self.pods.items()
            if pod.text and self.passes - pod.heard < PASSES_OF_AN_ANSWER
        )
        last = nlargest(PODS_OF_ONE_OBJECT, fresh, key=lambda each: each[1].heard)
        return {name: pod.text for name, pod in last}


@dataclass(slots=True)
class Startups:
    """The starting pods of all objects, and what they told last.

    A restart forgets everything: the next answers are as good.
    """

    _objects: dict[ObjectKey, _Starting] = field(default_factory=dict)
    _asked: int = 0

    def follow(self, key: ObjectKey, seen: Fleet) -> Fleet:
        """The same replicas with what their pods have told. From now on those are asked that start, and what
        a container told that has ended is forgotten."""
        before = self._objects.pop(key, None)
        known = {} if before is None else before.pods
        # Of a replica of several pods the first alone has an ops port.
        leaders = [each.leader for each in seen.current if not each.leader.is_ready]
        after: dict[str, _Told] = {}
        for pod in leaders:
            if pod.run is not None:
                told = known.get(pod.name)
                is_same = told is not None and told.run == pod.run
                after[pod.name] = told if told is not None and is_same else _Told(pod.run)
        if not after:
            return seen
        now = self._objects[key] = (
            _Starting(after) if before is None else replace(before, pods=after)
        )
        shown = now.shown()
        return seen.with_pods(lambda pod: replace(pod, progress=shown.get(pod.name, "")))

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._objects.pop(key, None)

    def questions(self, limit: int) -> list[Question]:
        """At most so many pods to ask now: objects, and of each its pods, that were not asked for the longest
        come first."""
        chosen: list[Question] = []
        for key, starting in sorted(self._objects.items(), key=lambda each: each[1].asked):
            room = min(PODS_OF_ONE_OBJECT, limit - len(chosen))
            if room == 0:
                break
            pods = nsmallest(room, starting.pods.items(), key=lambda each: each[1].asked)
            for name, told in pods:
                self._asked += 1
                told.asked = starting.asked = self._asked
                chosen.append(Question(key, name, told.run))
        return chosen

    def hear(self, answers: Iterable[tuple[Question, StartupReport | None]]) -> set[ObjectKey]:
        """Keeps the answers to one pass of questions, None where there was none; returns the objects of which
        there is something new to say."""
        by_key: dict[ObjectKey, list[tuple[Question, StartupReport | None]]] = {}
        for question, report in answers:
            by_key.setdefault(question.key, []).append((question, report))
        return {key for key, some in by_key.items() if self._hear(key, some)}

    def _hear(
        self, key: ObjectKey, answers: Iterable[tuple[Question, StartupReport | None]]
    ) -> bool:
        starting = self._objects.get(key)
        if starting is None:
            return False
        before = starting.shown()
        starting.passes += 1
        for question, report in answers:
            told = starting.pods.get(question.pod)
            # Another run: the one that was asked ended meanwhile.
            if report is not None and told is not None and told.run == question.run:
                told.text = progress_text(told.phase, report, told.run.container)
                told.phase, told.heard = report.current, starting.passes
        return starting.shown() != before


def progress_text(
    before: Phase | None, report: StartupReport, container: str = SERVE_CONTAINER
) -> str:
    """What a pod is doing, as a person reads it; empty where the pod's status says as much.

    The speed is that since the phase was seen `before`, so that a download that stands still is one of
    0 B/s; at first sight it is the phase's mean.
    """
    phase = report.current
    if phase is None:
        return "started, not ready" if report.started else ""
    is_of_draft = container == FETCH_DRAFT_CONTAINER and phase.name == "resolve"
    words = _OF_DRAFT if is_of_draft else _WORDS.get(phase.name, "")
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
