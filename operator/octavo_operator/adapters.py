"""Adapters. Whether the replicas of a model have the same LoRA adapters. Pure.

They are loaded by each pod's ops port: one that was loaded into some pods alone, or went with a pod that was
replaced, is not found by every other request, and nothing in a pod's status tells. Each pod of a model that
takes adapters is asked again and again, as these come and go; who asks is `ops_port`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from octavo_operator.api.conditions import Reason
from octavo_operator.findings import Finding
from octavo_operator.listing import parted
from octavo_operator.manifest import ObjectKey
from octavo_operator.pods import Run
from octavo_operator.replicas import Fleet
from octavo_operator.startups import Question, StartupReport

PATIENCE_SECONDS = 60.0
"""How long whoever loads adapters may take from pod to pod."""
MOST_QUESTIONS = 6
"""Without an answer: who tells nothing then is not waited for."""
Held = tuple[int, str]
"""How many a pod has, and a digest of their names and files."""


@dataclass(slots=True)
class _Run:
    """What is known of one run of a container that serves."""

    run: Run
    held: Held | None = None
    """None: not known, as earlier runtimes do not tell."""
    asked: int = 0
    """As which of all questions."""
    unanswered: int = 0


@dataclass(slots=True)
class Adapters:
    """Those of all objects that take some. A restart forgets everything."""

    _objects: dict[ObjectKey, dict[str, _Run]] = field(default_factory=dict)
    _asked: int = 0

    def follow(self, key: ObjectKey, seen: Fleet, *, takes_some: bool) -> Mapping[str, Held | None]:
        """What the replicas that answer have, by their pods. From now on those are asked."""
        before = self._objects.pop(key, {})
        if not takes_some:
            return {}
        runs: dict[str, _Run] = {}
        for pod in (each.leader for each in seen.ready_current):
            known = before.get(pod.name)
            if pod.run is not None:
                is_same = known is not None and known.run == pod.run
                runs[pod.name] = known if known is not None and is_same else _Run(pod.run)
        if len(runs) < 2:  # one is like itself
            return {}
        self._objects[key] = runs
        return {
            name: each.held
            for name, each in runs.items()
            if each.held is not None or each.unanswered < MOST_QUESTIONS
        }

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._objects.pop(key, None)

    def questions(self, limit: int) -> list[Question]:
        """At most so many pods to ask now, those first that were not asked for the longest."""
        every = [
            (run, Question(key, name, run.run))
            for key, runs in self._objects.items()
            for name, run in runs.items()
        ]
        chosen = sorted(every, key=lambda each: each[0].asked)[:limit]
        for run, _ in chosen:
            self._asked += 1
            run.asked = self._asked
            run.unanswered += 1
        return [question for _, question in chosen]

    def hear(self, answers: Iterable[tuple[Question, StartupReport | None]]) -> set[ObjectKey]:
        """Keeps the answers; what a pod told holds until it tells otherwise. Returns the objects of which
        there is news."""
        news = set()
        for question, report in answers:
            run = self._objects.get(question.key, {}).get(question.pod)
            if run is None or run.run != question.run or report is None or report.adapters is None:
                continue
            held, run.unanswered = (report.adapters, report.adapters_content), 0
            if run.held != held:
                run.held = held
                news.add(question.key)
        return news


def is_mixed(held: Mapping[str, Held | None]) -> bool:
    """Whether pods are known to have different ones."""
    return len({each for each in held.values() if each is not None}) > 1


def difference(
    held: Mapping[str, Held | None], lasting: Collection[str], told: str
) -> Finding | None:
    """What is to be said of replicas that have different adapters.

    Args:
        lasting: Not empty when they have differed for too long.
        told: What was said of it in the pass before; it holds until all have been asked, as after a restart.
    """
    if is_mixed(held):
        return Finding(Reason.ADAPTERS_DIFFER, _words(held)) if lasting else None
    is_open = bool(told) and None in held.values()
    return Finding(Reason.ADAPTERS_DIFFER, told) if is_open else None


def _words(held: Mapping[str, Held | None]) -> str:
    pods: dict[str, list[str]] = {}
    for name, has in sorted(held.items()):
        if has is not None:
            count, content = has
            text = f"{count} with content {content}" if count else "none"
            pods.setdefault(text, []).append(name)
    return (
        f"replicas have different LoRA adapters, so that one is not found by every request: {parted(pods)}; "
        "load them into each pod, or name them in spec.extraArgs (--lora-modules=NAME=PATH), which every pod "
        "has from its start"
    )
