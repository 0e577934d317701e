"""Windows, capped scores and experts take the GPU's path with the tokens that transformers gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from octavo.kernels.reference import device as reference_kernels
from octavo.kernels.reference.experts.route import ExpertRouting
from tests.support.runtime.checkpoints import GEMMA2, make_checkpoint
from tests.support.runtime.gpu_path import Overlapped, greedy, make_gpu_executor, sequences

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("gemma2", GEMMA2),
    "mistral-window": ("mistral", {"sliding_window": 23}),
    "mixtral": ("mixtral", {"num_local_experts": 5}),
}


@pytest.mark.parametrize("name", MODELS)
def test_ragged_chunks_and_pending_decodes_give_the_tokens_of_transformers(
    name: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    family, changes = MODELS[name]
    reference = make_checkpoint(tmp_path, family, **changes)
    steps = Overlapped(make_gpu_executor(tmp_path))
    a, b, c = running = sequences(1, 16, 60)
    steps.submit([(a, 1), (c, 33)])
    steps.submit([(c, 27), (a, 1), (b, 16)])
    for _ in range(16):
        steps.submit([(s, 1) for s in running])
    steps.take()
    for sequence in running:
        assert sequence.output == greedy(reference, sequence)
        assert len(set(sequence.output)) > 3, "a constant output would prove nothing"


def test_padding_rows_of_a_step_choose_no_expert(tmp_path: Path) -> None:
    """Three sequences decode at the recorded size of four."""
    torch.set_num_threads(1)
    family, changes = MODELS["mixtral"]
    model = make_checkpoint(tmp_path, family, num_hidden_layers=1, **changes)
    routed: list[ExpertRouting] = []

    def route(*args: Any, **named: Any) -> ExpertRouting:
        routed.append(reference_kernels.route_to_experts(*args, **named))
        return routed[-1]

    def recorded(work: Callable[[], None]) -> Callable[[], None]:
        work()
        return work

    names = {name: getattr(reference_kernels, name) for name in reference_kernels.__all__}
    kernels: Any = SimpleNamespace(**names | {"route_to_experts": route})
    executor = make_gpu_executor(tmp_path, kernels=kernels, max_num_seqs=4, is_padded=False)
    executor.runner.capture(recorded)
    assert [len(routing.shares) for routing in routed] == [4, 2, 1]
    assert all((routing.tiles[:, 0] < 0).all() for routing in routed)

    steps = Overlapped(executor)
    running = sequences(1, 16, 23)
    steps.submit([(s, len(s.prompt)) for s in running])
    routed.clear()
    for _ in range(8):
        steps.submit([(s, 1) for s in running])
    steps.take()
    assert [len(routing.shares) for routing in routed] == [4] * 8
    for routing in routed:
        assert not routing.shares[3:].any()
        places = int(routing.tiles[:, 2].max())
        assert sorted(routing.order[:places].tolist()) == list(range(3 * routing.per_token))
    for sequence in running:
        assert sequence.output == greedy(model, sequence)
