"""transformers `generate` in a process of its own, driven by lines of JSON on stdin.

One static batch of equal prompts: the form that suits `generate` best, without padding.
"""

from __future__ import annotations

import json
import sys
import time

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM


def main() -> None:
    folder, dtype_name, dummy, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    dtype = getattr(torch, dtype_name)
    if dummy == "dummy":
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.eval()
    print(json.dumps({"ready": True, "version": transformers.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        prompts = torch.tensor(job["prompts"])
        start = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=False,
                min_new_tokens=job["output_tokens"],
                max_new_tokens=job["output_tokens"],
                pad_token_id=0,
            )
        seconds = time.perf_counter() - start
        tokens = int((out.shape[1] - prompts.shape[1]) * out.shape[0])
        print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
