"""The engine's test of itself on the path that a GPU takes."""

from __future__ import annotations

from pathlib import Path

import torch

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.engine.step_failures import SUSPECT_AFTER
from octavo.sampling_params import SamplingParams
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor


def answer(core: EngineCore) -> list[int]:
    params = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True)
    core.add(AddRequest("r", [5, 6, 7], params))
    tokens = []
    while core.has_work:
        for output in core.step().outputs:
            assert output.error is None
            tokens += output.new_token_ids
    return tokens


def test_it_runs_and_leaves_no_row_and_no_trace_in_answers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_checkpoint(tmp_path)
    executor = make_gpu_executor(tmp_path, num_blocks=12, max_num_seqs=1)
    config = EngineConfig(model=str(tmp_path), max_num_seqs=1, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    answers = [answer(core)]
    for _ in range(2):
        core._failures.count = SUSPECT_AFTER
        answers.append(answer(core))
        assert core.stats().num_failed_steps == 0
        assert executor.runner.rows.num_used == 1  # the request's, told with the next step
    assert answers[0] == answers[1] == answers[2]
