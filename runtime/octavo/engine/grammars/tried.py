"""Tried grammars: compiled in the engine's process only when another process has survived it, and not tried
again where it has not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from octavo.engine.grammars.compiled import CompiledGrammar
from octavo.engine.grammars.compiler import GrammarCompiler
from octavo.engine.grammars.limits import MOST_BYTES, MOST_SECONDS
from octavo.engine.grammars.trial import GrammarTrial, Outcome
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams

_log = logging.getLogger(__name__)


class TriedGrammars:
    """
    Args:
        trial: None: nothing is tried.
        most_seconds: Of a CPU, for one grammar.
    """

    def __init__(
        self,
        compiler: GrammarCompiler,
        trial: GrammarTrial | None,
        *,
        most_seconds: float = MOST_SECONDS,
    ) -> None:
        self._compiler = compiler
        self._trial = trial
        self.most_seconds = most_seconds

    def takes(
        self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int], cpu_seconds: float
    ) -> bool:
        """Whether it may be compiled here: that took another process no more than it was given. Raises
        `InvalidParameterError` for one that was refused before."""
        return self._tried(outputs, end_token_ids, cpu_seconds) is Outcome.COMPILED

    def prepare(
        self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int]
    ) -> CompiledGrammar:
        """Tried, and compiled. Raises as `GrammarCompiler.prepare`, also for what takes too much."""
        outcome = self._tried(outputs, end_token_ids, self.most_seconds)
        if outcome is Outcome.COMPILED:
            return self._compiler.prepare(outputs, end_token_ids)
        _log.warning("a grammar ended the process that compiled it")
        name = outputs.parameter
        if outcome is Outcome.KILLED:
            raise InvalidParameterError(name, f"{name} could not be compiled. Send it again.")
        why = {
            Outcome.TIME: f"compiling it takes more than {self.most_seconds:g} seconds of CPU time",
            Outcome.MEMORY: f"compiling it takes more than {MOST_BYTES >> 30} GiB of memory",
            Outcome.CRASHED: "the process that compiled it failed, as of deep nesting, or at "
            f"{MOST_BYTES >> 30} GiB of memory",
        }[outcome]
        error = InvalidParameterError(
            name,
            f"{name} cannot be held to: {why}, which is the limit. Write it more simply: with fewer "
            "alternatives, repetitions and bounds.",
        )
        self._compiler.remember(outputs, end_token_ids, error)
        raise error

    def _tried(
        self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int], cpu_seconds: float
    ) -> Outcome:
        self._compiler.check_refused(outputs, end_token_ids)
        if self._trial is None or self._compiler.is_ready(outputs, end_token_ids):
            return Outcome.COMPILED
        return self._trial.run(outputs, end_token_ids, cpu_seconds)

    def check(self, request: AddRequest) -> None:
        """Has the request's grammar ready, if it wants one. Raises as `prepare`."""
        outputs = request.sampling.structured_outputs
        if outputs is not None:
            self.prepare(outputs, request.end_token_ids)

    def close(self) -> None:
        """Ends the other process, if there is one."""
        if self._trial is not None:
            self._trial.close()
