"""Octavo's `LLM` in a process of its own, driven by lines of JSON on stdin.

What peers that have no HTTP in the way are compared with, and what says what HTTP costs.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

from octavo.config import LoadFormat
from octavo.llm import LLM
from octavo.sampling_params import SamplingParams


def main() -> None:
    folder, weights, max_model_len, quantization = sys.argv[1:5]
    model = LLM(
        folder,
        load_format=LoadFormat.DUMMY if weights == "dummy" else LoadFormat.AUTO,
        quantization=None if quantization == "none" else quantization,
        max_model_len=int(max_model_len),
        enable_prefix_caching=False,
    )
    print(json.dumps({"ready": True, "version": version("octavo")}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        params = SamplingParams(temperature=0, max_tokens=job["output_tokens"], ignore_eos=True)
        start = time.perf_counter()
        outputs = model.generate(job["prompts"], params)
        seconds = time.perf_counter() - start
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
