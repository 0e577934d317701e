"""vLLM's CPU build in a process of its own, driven by lines of JSON on stdin.

Runs in the interpreter that has it. The engine computes in this process, without HTTP and without a second
process beside it, while Octavo is timed over HTTP. Prefix caching is off, keys and values are bfloat16.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    folder, weights, max_model_len, max_num_seqs = sys.argv[1:5]
    answers, sys.stdout = sys.stdout, sys.stderr  # vLLM prints to it
    import vllm
    from vllm import LLM, SamplingParams, TokensPrompt

    model = LLM(
        folder,
        dtype="bfloat16",
        load_format="dummy" if weights == "dummy" else "auto",
        enable_prefix_caching=False,
        max_model_len=int(max_model_len),
        max_num_seqs=int(max_num_seqs),
        seed=0,
    )
    print(json.dumps({"ready": True, "version": vllm.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        count = job["output_tokens"]
        params = SamplingParams(
            temperature=0, ignore_eos=True, min_tokens=count, max_tokens=count, detokenize=False
        )
        prompts = [TokensPrompt(prompt_token_ids=prompt) for prompt in job["prompts"]]
        start = time.perf_counter()
        outputs = model.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(json.dumps({"seconds": seconds, "tokens": tokens}), file=answers, flush=True)


if __name__ == "__main__":
    main()
