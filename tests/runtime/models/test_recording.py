"""Decode steps of transformers' modules in recordings: which can be, and that what is replayed is right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from octavo.config import EngineConfig, ModelImplementation
from octavo.models.from_transformers.config import TransformersConfig
from octavo.models.from_transformers.recording import HostWatch
from octavo.models.registry import read_model_config
from octavo.worker.start.implementation import settled
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.taped_steps import Tape

AUTO = ModelImplementation.AUTO
CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("model_type", ["cohere2", "gpt2", "granitemoe", "olmoe", "opt"])
def test_replayed_decodes_give_the_tokens_of_transformers(model_type: str, tmp_path: Path) -> None:
    """Windows, learnt positions, experts with padding rows beside them."""
    torch.set_num_threads(1)
    model = make_generic_checkpoint(tmp_path, model_type)
    tape = Tape()
    executor = make_gpu_executor(
        tmp_path,
        kernels=tape.kernels,
        capture=tape.capture,
        implementation=AUTO,
        max_num_seqs=5,
    )
    assert_as_transformers(serve(tmp_path, executor, VOCAB), model)
    assert tape.num_replays > 12


@pytest.mark.parametrize("model_type", ["cohere2", "gpt2", "olmoe"])
def test_the_start_says_nothing_of_modules_that_a_graph_holds(
    model_type: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_generic_checkpoint(tmp_path, model_type)
    assert not started(tmp_path).enforce_eager
    assert "without CUDA graphs" not in caplog.text


def test_experts_of_transformers_own_run_eager_and_the_start_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_generic_checkpoint(tmp_path, "gpt_oss")
    assert not started(tmp_path).enforce_eager
    assert started(tmp_path, has_own_experts=False).enforce_eager
    assert "without CUDA graphs: no graph holds a decode, experts run by" in caplog.text


def started(folder: Path, *, has_own_experts: bool = True) -> EngineConfig:
    """The config that a start on a GPU goes on with."""
    model = read_model_config(folder, AUTO)
    if not has_own_experts:
        assert isinstance(model, TransformersConfig)
        model = model.with_own_experts_alone("their gate has no GPU kernel")
    return settled(EngineConfig(model=str(folder)), model, CUDA)


def on_host(x: torch.Tensor) -> torch.Tensor:
    return x * x.cpu().sum()


def by_list(x: torch.Tensor) -> torch.Tensor:
    return x[[0, 2]]


def by_places(x: torch.Tensor) -> torch.Tensor:
    return x[torch.arange(2)]


def by_mask(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[x > 0] = x.new_zeros(1)
    return x


def from_numbers(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tensor([1.0, 2.0, 3.0], device=x.device)


def of_the_host(x: torch.Tensor) -> torch.Tensor:
    return x + torch.ones(3).to(x.device)


def harmless(x: torch.Tensor) -> torch.Tensor:
    """Numbers, slices, places on the device, and a scalar of the host's, whose value goes into the launch."""
    places = torch.arange(2, device=x.device)
    picked = torch.where(x > 0, x * torch.tensor(2.0), x)[places]
    return torch.cat([picked, x[:1]], dim=0).to(torch.bfloat16)


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (on_host, "moves a tensor between host and device"),
        (by_list, "moves a tensor between host and device"),
        (by_places, "reads a tensor on the host"),
        (by_mask, "waits for the device"),
        (from_numbers, "moves a tensor between host and device"),
        (of_the_host, "moves a tensor between host and device"),
        (harmless, None),
    ],
)
def test_what_a_graph_cannot_hold_is_seen_without_a_gpu(
    step: Callable[[torch.Tensor], torch.Tensor], problem: str | None
) -> None:
    with FakeTensorMode():
        x = torch.ones(3, device=CUDA)
        with HostWatch() as watch:
            step(x)
    assert (watch.problem is None) == (problem is None)
    assert problem is None or problem in str(watch.problem)
