"""All that a start-up and serving launch for the models of the benchmark, compiled for the chips they run on.

The compile gate builds what kernels ship; here it is what launches ask for: Triton's own launch code says
which arguments are multiples of 16. Binaries are kept: a run compiles what changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from octavo.config import EngineConfig, KVCacheDtype
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.gpu_shapes import A100, H100, SHAPES, shape_of

needs_module(Requirement.TRITON)

from octavo.kernels.gpu.compiling.forms import Form, absent_driver
from octavo.kernels.gpu.compiling.machine_code import Binary, resources_of
from octavo.kernels.gpu.tuning.chips import max_shared_bytes
from octavo.worker.compile_ahead.absent_gpu import Chip
from octavo.worker.compile_ahead.process import compile_forms
from octavo.worker.compile_ahead.rehearsal import rehearse
from tests.support.kernels.kept_binaries import kept_binaries

# After a change of Triton everything is compiled, which is minutes of work.
pytestmark = pytest.mark.timeout(1200)

# What they load is narrow: of a token a value for each expert, and of a position a value for each thread.
_NARROW = {"_place", "_count", "_rope_and_cache"}


@pytest.fixture(scope="module")
def compiler_cache() -> Iterator[None]:
    with kept_binaries():
        yield


@pytest.fixture
def forever() -> Iterator[int]:
    """A pipe's end that says that somebody waits."""
    read, write = os.pipe()
    yield read
    os.close(read)
    os.close(write)


def compiled(form: Form) -> Binary:
    kernel = form.compile()
    return Binary(kernel.asm["cubin"], kernel.metadata.shared)


@pytest.mark.parametrize(
    ("model", "chip", "cache", "vocab", "ranks"),
    [
        ("llama-3.1-8b", A100, KVCacheDtype.AUTO, None, 1),
        # With a cache of bfloat16, attention is Mixtral's below, and the rest this one's.
        ("llama-3.1-8b", H100, KVCacheDtype.FP8, None, 1),
        ("qwen3-0.6b", A100, KVCacheDtype.AUTO, None, 1),
        ("qwen3-0.6b", H100, KVCacheDtype.AUTO, None, 1),
        # As fine-tuning leaves them: with a token or two more.
        ("mixtral-8x7b", A100, KVCacheDtype.AUTO, 32001, 1),
        ("mixtral-8x7b", H100, KVCacheDtype.AUTO, 32002, 1),
        ("gemma-2-9b", H100, KVCacheDtype.AUTO, None, 1),
        # A key head for two ranks, and of an expert 896 places.
        ("mixtral-8x7b", H100, KVCacheDtype.AUTO, None, 16),
    ],
    ids=lambda value: f"sm{value.capability}" if isinstance(value, Chip) else str(value),
)
def test_every_form_that_is_launched_fits_the_chip(
    model: str,
    chip: Chip,
    cache: KVCacheDtype,
    vocab: int | None,
    ranks: int,
    tmp_path: Path,
    compiler_cache: None,
    forever: int,
) -> None:
    config = SHAPES[model] if vocab is None else {**SHAPES[model], "vocab_size": vocab}
    shape = shape_of(config, tmp_path)
    # Steps of 512 tokens launch the forms of larger ones, too.
    engine = EngineConfig(
        model=str(tmp_path),
        max_num_seqs=2,
        max_num_batched_tokens=512,
        kv_cache_dtype=cache,
        tensor_parallel_size=ranks,
        enable_lora="llama" in model and cache is KVCacheDtype.AUTO,
    )
    forms = rehearse(engine, shape, torch.bfloat16, chip)
    with absent_driver(chip.capability):
        outcomes = compile_forms(forms, os.cpu_count() or 1, forever)
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        binaries = [compiled(form) for form in forms]  # found in the cache
    for form, found in zip(forms, resources_of(binaries, chip.capability), strict=True):
        assert found.spill_instructions == 0, (form, found)
        assert found.shared_bytes <= max_shared_bytes(chip.capability), (form, found)
        # A token's own logit is one, and what it counts.
        if form.name not in _NARROW:
            assert found.narrow_loads <= 1, (form, found)
