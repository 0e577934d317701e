"""What a program prints that uses `LLM` is its own; what Octavo logs goes where the program says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.runtime.checkpoints import make_checkpoint, save_word_tokenizer

_PROGRAM = """
import logging, sys
from octavo import LLM, SamplingParams

logging.basicConfig()
logging.getLogger("octavo").setLevel("DEBUG")
with LLM(sys.argv[1], dtype="float32", device="cpu", kv_cache_memory_bytes=2**20) as llm:
    params = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    (output,) = llm.generate([[1, 2, 3]], params)
print(len(output.outputs[0].token_ids))
"""


def test_llm_prints_nothing(tmp_path: Path) -> None:
    # Its layer norms are none of our kernels', which is worth a line.
    make_checkpoint(tmp_path, "phi", hidden_size=64, num_attention_heads=2, num_key_value_heads=1)
    save_word_tokenizer(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.stdout == "4\n", done.stderr
    assert "steps are not repeated" in done.stderr
