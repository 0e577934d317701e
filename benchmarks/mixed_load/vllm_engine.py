"""vLLM's CPU build under a mixed load, in a process of its own that is driven by lines of JSON on stdin.

Its engine computes in this process and a token counts as arrived when the step that made it returns: without
HTTP, detokenising and a second process, all of which Octavo has in its figures.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


class _Window:
    """Steps an engine through one job, which has the fields of `MixedLoad` and its texts."""

    def __init__(self, engine: Any, job: dict[str, Any], params: Any) -> None:
        self._engine = engine
        self._job = job
        self._params = params
        self._begin = 0.0
        self._streams = [f"stream-{number}" for number in range(len(job["streams"]))]
        self._counts = dict.fromkeys(self._streams, 0)
        self._arrivals: dict[str, list[tuple[float, int]]] = {name: [] for name in self._streams}
        self._firsts: dict[str, float] = {}
        self._num_ended = 0

    def run(self) -> dict[str, Any]:
        """`Observed`, as JSON has it."""
        job = self._job
        for name, text in zip(self._streams, job["streams"], strict=True):
            self._add(name, text, job["longest"])
        while min(self._counts.values()) < job["steady_tokens"]:
            self._step()
        self._begin = time.perf_counter()
        prompts, period, asked = job["prompts"], job["period"], 0
        while len(self._firsts) < len(prompts) or self._now() < len(prompts) * period:
            while asked < len(prompts) and self._now() >= asked * period:
                self._add(f"prompt-{asked}", prompts[asked], 1)
                asked += 1
            self._step()
        seconds, num_ended = self._now(), self._num_ended
        self._engine.abort_request(self._streams, internal=False)
        while self._engine.has_unfinished_requests():
            self._engine.step()
        return {
            "arrivals": [
                [(at - self._begin, tokens) for at, tokens in self._arrivals[name]]
                for name in self._streams
            ],
            "first_tokens": [
                self._firsts[f"prompt-{number}"] - number * period for number in range(asked)
            ],
            "seconds": seconds,
            "num_ended": num_ended,
        }

    def _now(self) -> float:
        return time.perf_counter() - self._begin

    def _add(self, name: str, text: list[int], output_tokens: int) -> None:
        self._engine.add_request(
            name, {"prompt_token_ids": text}, self._params(max_tokens=output_tokens)
        )

    def _step(self) -> None:
        outputs = self._engine.step()
        at = time.perf_counter()
        for output in outputs:
            name, count = output.request_id, len(output.outputs[0].token_ids)
            if name not in self._counts:
                self._firsts[name] = at - self._begin
                continue
            self._num_ended += output.finished
            self._counts[name] += count
            self._arrivals[name].append((at, self._counts[name]))


def main() -> None:
    folder, weights, max_model_len, max_num_seqs, max_num_batched_tokens = sys.argv[1:6]
    answers, sys.stdout = sys.stdout, sys.stderr  # vLLM prints to it
    import vllm
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    model = LLM(
        folder,
        dtype="bfloat16",
        load_format="dummy" if weights == "dummy" else "auto",
        enable_prefix_caching=False,
        max_model_len=int(max_model_len),
        max_num_seqs=int(max_num_seqs),
        max_num_batched_tokens=int(max_num_batched_tokens),
        seed=0,
    )

    def params(max_tokens: int) -> SamplingParams:
        return SamplingParams(
            temperature=0,
            ignore_eos=True,
            max_tokens=max_tokens,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    print(json.dumps({"ready": True, "version": vllm.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        observed = _Window(model.llm_engine, json.loads(line), params).run()
        print(json.dumps(observed), file=answers, flush=True)


if __name__ == "__main__":
    main()
