"""Commits. Which commit of a hub's model each replica serves, or which content of a bucket's or a claim's,
where the spec does not say it. Pure.

A branch moves and a bucket is written over: a pod that starts later, or a container that starts again, may
serve another model under the same name, and nothing in a pod's status tells. Each that answers is asked once;
who asks is `ops_port`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from octavo_operator.api.conditions import Reason
from octavo_operator.api.v1alpha1 import ModelSource
from octavo_operator.findings import Finding
from octavo_operator.listing import parted
from octavo_operator.manifest import ObjectKey
from octavo_operator.pods import Run
from octavo_operator.replicas import Fleet
from octavo_operator.startups import Question, StartupReport

MOST_QUESTIONS = 6
"""About one run: who tells nothing then will not."""


@dataclass(slots=True)
class _Run:
    """What is known of one run of a container that serves."""

    run: Run
    commit: str | None = None
    """Or the content. None: not known yet; empty: it does not tell, as earlier runtimes do not."""
    asked: int = 0


@dataclass(slots=True)
class Commits:
    """Those of all objects whose model may move. A restart forgets everything."""

    _objects: dict[ObjectKey, dict[str, _Run]] = field(default_factory=dict)

    def follow(
        self, key: ObjectKey, model: ModelSource, seen: Fleet
    ) -> Mapping[str, str | None] | None:
        """What the replicas that answer serve, by their pods; None where the spec says it."""
        before = self._objects.pop(key, {})
        if not model.may_move:
            return None
        runs: dict[str, _Run] = {}
        for pod in (each.leader for each in seen.ready_current):
            known = before.get(pod.name)
            if pod.run is not None:
                is_same = known is not None and known.run == pod.run
                runs[pod.name] = known if known is not None and is_same else _Run(pod.run)
        if runs:
            self._objects[key] = runs
        return {name: each.commit for name, each in runs.items()}

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._objects.pop(key, None)

    def questions(self, limit: int) -> list[Question]:
        """At most so many pods to ask now, those first that were asked the least."""
        open_ = [
            (run, Question(key, name, run.run))
            for key, runs in self._objects.items()
            for name, run in runs.items()
            if run.commit is None
        ]
        chosen = sorted(open_, key=lambda each: each[0].asked)[:limit]
        for run, _ in chosen:
            run.asked += 1
        return [question for _, question in chosen]

    def hear(self, answers: Iterable[tuple[Question, StartupReport | None]]) -> set[ObjectKey]:
        """Keeps the answers, None where there was none; returns the objects of which there is news."""
        news = set()
        for question, report in answers:
            run = self._objects.get(question.key, {}).get(question.pod)
            if run is None or run.run != question.run or run.commit is not None:
                continue
            if report is not None:
                run.commit = report.commit or report.content
            elif run.asked >= MOST_QUESTIONS:
                run.commit = ""
            if run.commit is not None:
                news.add(question.key)
        return news


def difference(
    model: ModelSource, commits: Mapping[str, str | None] | None, told: str
) -> Finding | None:
    """What is to be said of replicas that serve different commits or contents.

    Args:
        told: What was said of it in the pass before; it holds until all have been asked, as after a restart.
    """
    if commits is None:
        return None
    pods: dict[str, list[str]] = {}
    for name, commit in sorted(commits.items()):
        if commit:
            pods.setdefault(commit, []).append(name)
    if len(pods) < 2:
        is_open = bool(told) and None in commits.values()
        return Finding(Reason.MODEL_COMMITS_DIFFER, told) if is_open else None
    return Finding(Reason.MODEL_COMMITS_DIFFER, _words(model, parted(pods)))


def _words(model: ModelSource, pods: str) -> str:
    if model.scheme != "hf":
        return (
            f"replicas serve different contents of {model.uri}, which was written over: {pods}; a place of "
            "its own for each model in spec.model.uri has all serve one, as has a `kubectl rollout restart` "
            "of the Deployment, which starts them anew"
        )
    name = model.uri.partition("@")[0]
    return (
        f"replicas serve different commits of {model.uri}, which has moved: {pods}; "
        f"spec.model.uri {name}@COMMIT has all serve one"
    )
