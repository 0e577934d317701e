"""Weights stream into their final form: a load's peak is at most 1.2 times what is held in the end and the
largest tensor. In a process of its own, of a checkpoint in shards that is rounded as it is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.loading_memory import Sizes, largest_tensor, write_checkpoint
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)

_MIB = 2**20
SMALL = Sizes(hidden=1024, inner=2816, vocab=4096, shard_bytes=96 * _MIB)


def test_a_load_takes_little_more_than_what_it_leaves(tmp_path: Path) -> None:
    size = write_checkpoint(tmp_path, 400 * _MIB, SMALL)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    command = [sys.executable, "-m", "benchmarks.loading_memory", "--load", str(tmp_path)]
    command += ["--quantization", "int8"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert 0.4 * size < found["final"] < 0.6 * size
    assert found["peak"] <= 1.2 * found["final"] + largest_tensor(tmp_path), found
