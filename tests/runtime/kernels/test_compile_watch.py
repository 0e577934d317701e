"""A kernel that is compiled while requests run is a warning, and nothing else is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from octavo.kernels.gpu.compiling.watch import CompileWatch


@triton.jit
def _copy(source, target):
    triton.language.store(target, triton.language.load(source))


def compile_copy(dtype: str) -> Any:
    source = ASTSource(_copy, {"source": dtype, "target": dtype})
    return triton.compile(
        source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": True}
    )


@pytest.fixture
def compiler(tmp_path: Any) -> Iterator[SimpleNamespace]:
    with knobs.cache.scope(), knobs.compilation.scope():
        knobs.cache.dir = str(tmp_path)
        yield SimpleNamespace(watch=CompileWatch())


def test_what_is_compiled_after_the_start_is_a_warning(
    compiler: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    compile_copy("*fp32")
    compile_copy("*fp32")  # from the cache
    assert compiler.watch.num_compiled == 1
    compiler.watch.serving_begins()
    compile_copy("*fp32")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    compile_copy("*fp16")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "GPU kernel _copy was compiled in the middle of serving" in caplog.text
