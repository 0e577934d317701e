"""Leading runner: the first rank's, which every other rank follows step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.encoder import EncoderRunner
from octavo.worker.cpu.runner import ModelRunner, StepResult
from octavo.worker.ranks.group import RankLostError
from octavo.worker.ranks.step_frames import pack_step
from octavo.worker.ranks.team import Team


class LeadingRunner:
    """See `Runner`. A step that fails leaves the ranks apart, one of them in a sum and another not, so it is
    the end of all: `DeviceFaultError`.

    Args:
        runner: Of this rank's part of the model.
    """

    def __init__(self, runner: ModelRunner, team: Team, num_ranks: int) -> None:
        self._runner = runner
        self._team = team
        self._name = f"rank 0 of {num_ranks}"
        self._copies: Sequence[tuple[int, int]] = ()

    @property
    def max_model_len(self) -> int:
        return self._runner.max_model_len

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        self._copies = copies
        self._runner.copy_blocks(copies)

    def score(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        is_done = False
        try:
            yield from self._runner.score(hidden)
            is_done = True
        except RankLostError as error:
            raise self._team.failure(str(error)) from error
        finally:
            if not is_done:
                self._team.fail(f"{self._name} did not end a step; its log says why.")

    def run(self, batch: Sequence[ScheduledSequence]) -> StepResult:
        self._team.send_step(pack_step(batch, self._copies))
        self._copies = ()
        with _ending_all(self._team, self._name):
            return self._runner.run(batch)


class LeadingPromptRunner:
    """See `PromptRunner`; as `LeadingRunner`."""

    def __init__(self, runner: EncoderRunner, team: Team, num_ranks: int) -> None:
        self._runner = runner
        self._team = team
        self._name = f"rank 0 of {num_ranks}"

    def run(self, entries: Sequence[ScheduledSequence]) -> list[list[float]]:
        self._team.send_step(pack_step(entries, ()))
        with _ending_all(self._team, self._name):
            return self._runner.run(entries)


@contextmanager
def _ending_all(team: Team, name: str) -> Iterator[None]:
    """What fails in here, raised as the end of all ranks; `name` is this one's."""
    try:
        yield
    except RankLostError as error:
        raise team.failure(str(error)) from error
    except Exception as error:
        raise team.fail(f"{name} failed: {type(error).__name__}: {error}") from error
