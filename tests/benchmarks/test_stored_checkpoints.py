"""The benchmark's stored checkpoints are what their names say, and the engine serves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cpu.models import QWEN3_0_6B
from benchmarks.cpu.stored_checkpoints import GROUP, Checkpoint, write_checkpoint
from octavo.kernels.reference.weight_only import Code
from octavo.quantization import stored_format
from octavo.quantization.stored import StoredLayout
from tests.support.runtime.stepping import Stepper, make_executor

TINY = QWEN3_0_6B | {
    "vocab_size": 160,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
}
HEADS = {
    Checkpoint.GPTQ_HEAD: StoredLayout(Code.INT4, GROUP),
    Checkpoint.COMPRESSED_TENSORS_HEAD: StoredLayout(Code.INT8, None),
}


@pytest.mark.parametrize("checkpoint", Checkpoint)
def test_layers_have_four_bits_and_heads_what_the_name_says(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    write_checkpoint(TINY, checkpoint, tmp_path)
    stored = stored_format(
        json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    )
    product = StoredLayout(Code.INT4, GROUP, has_zeros=checkpoint is Checkpoint.AWQ)
    assert stored.layout("model.layers.1.mlp.down_proj", 256) == product
    assert stored.layout("lm_head", 128) == HEADS.get(checkpoint)
    executor = make_executor(tmp_path, dtype="bfloat16")
    stepper = Stepper(executor)
    sampled = stepper.step([(stepper.sequence([3, 4, 5]), 3)])
    assert len(sampled) == 1
