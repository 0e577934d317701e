"""vLLM's executor without a model: what a tiny worker loads is never run.

Named by `vllm serve --distributed-executor-backend`, so that API process, engine process, scheduler and the
messages between them are vLLM's own, as the null engine's are Octavo's. Runs in vLLM's interpreter.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.outputs import ModelRunnerOutput

from benchmarks.server.step_clock import SYMBOLS, VARIABLE, StepClock

CORES = "OCTAVO_BENCHMARK_ENGINE_CORES"


class NullExecutor(UniProcExecutor):  # type: ignore[misc] # vLLM is not installed where types are checked
    """Answers each step at once or at the clock's pace, with the token that names the step."""

    def _init_executor(self) -> None:
        super()._init_executor()
        if cores := os.environ.get(CORES):
            for thread in Path("/proc/self/task").iterdir():
                os.sched_setaffinity(int(thread.name), set(map(int, cores.split(","))))
        folder = Path(self.model_config.model)
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        self._token_ids = {symbol: vocabulary[symbol] for symbol in SYMBOLS}
        self._clock = StepClock(Path(os.environ[VARIABLE]))
        self._prompt_tokens: dict[str, int] = {}
        self._made: ModelRunnerOutput | None = None

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        self._made = self._make(scheduler_output)
        return self._answer(None, non_block)

    def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
        made, self._made = self._made, None
        return self._answer(made, non_block)

    def _make(self, step: Any) -> ModelRunnerOutput:
        for name in step.finished_req_ids:
            self._prompt_tokens.pop(name, None)
        computed: dict[str, int] = {}
        for new in step.scheduled_new_reqs:
            self._prompt_tokens[new.req_id] = len(new.prompt_token_ids)
            computed[new.req_id] = new.num_computed_tokens
        cached = step.scheduled_cached_reqs
        computed.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        counts = step.num_scheduled_tokens
        token = [self._token_ids[self._clock.wait()]] if counts else []
        return ModelRunnerOutput(
            req_ids=list(counts),
            req_id_to_index={name: index for index, name in enumerate(counts)},
            sampled_token_ids=[
                list(token) if computed[name] + count >= self._prompt_tokens[name] else []
                for name, count in counts.items()
            ],
        )

    def _answer(self, result: Any, non_block: bool) -> Any:
        if not non_block:
            return result
        future: Future[Any] = Future()
        future.set_result(result)
        return future
