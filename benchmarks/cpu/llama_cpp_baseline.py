"""llama.cpp in a process of its own, driven by lines of JSON on stdin.

Runs in the interpreter that has `llama-cpp-python` and `gguf`. The prompts are decoded as one
`llama_batch` with a sequence id each: one product for all sequences, the form that suits llama.cpp best.
Between jobs it waits on stdin; its OpenMP threads sleep then.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.cpu.gguf_model import write_qwen3

_BATCH_TOKENS = 2048


class LlamaCpp:
    """A loaded GGUF model with room for `max_sequences` sequences of `context` tokens."""

    def __init__(self, path: Path, threads: int, *, max_sequences: int, context: int) -> None:
        self._max_sequences, self._max_tokens = max_sequences, context
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}.")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max_sequences * context
        params.n_batch = _BATCH_TOKENS
        params.n_seq_max = max_sequences
        params.n_threads = threads
        params.n_threads_batch = threads
        params.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError("llama.cpp cannot make a context.")
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._batch = llama_cpp.llama_batch_init(_BATCH_TOKENS, 0, 1)

    def generate(self, prompts: list[list[int]], output_tokens: int) -> list[list[int]]:
        """Greedy continuations of equal prompts, each of `output_tokens` tokens."""
        length = len(prompts[0])
        if len(prompts) > self._max_sequences or length + output_tokens > self._max_tokens:
            raise ValueError(
                f"{len(prompts)} prompts of {length} + {output_tokens} tokens; at most "
                f"{self._max_sequences} of {self._max_tokens}."
            )
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        tokens = self._prefill(prompts)
        outputs = [[token] for token in tokens]
        for position in range(length, length + output_tokens - 1):
            self._clear()
            for sequence, token in enumerate(tokens):
                self._append(token, position, sequence, wants_logits=True)
            tokens = self._decode()
            for output, token in zip(outputs, tokens, strict=True):
                output.append(token)
        return outputs

    def _prefill(self, prompts: list[list[int]]) -> list[int]:
        """Whole prompts, as many as a batch takes at once; their first tokens."""
        self._clear()
        found: list[int] = []
        for sequence, prompt in enumerate(prompts):
            if self._batch.n_tokens + len(prompt) > _BATCH_TOKENS:
                found += self._decode()
                self._clear()
            for position, token in enumerate(prompt):
                self._append(token, position, sequence, wants_logits=position == len(prompt) - 1)
        return found + self._decode()

    def _clear(self) -> None:
        self._batch.n_tokens = 0
        self._sampled: list[int] = []

    def _append(self, token: int, position: int, sequence: int, *, wants_logits: bool) -> None:
        index = self._batch.n_tokens
        self._batch.token[index] = token
        self._batch.pos[index] = position
        self._batch.n_seq_id[index] = 1
        self._batch.seq_id[index][0] = sequence
        self._batch.logits[index] = wants_logits
        self._batch.n_tokens = index + 1
        if wants_logits:
            self._sampled.append(index)

    def _decode(self) -> list[int]:
        status = llama_cpp.llama_decode(self._context, self._batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}.")
        return [self._best(index) for index in self._sampled]

    def _best(self, index: int) -> int:
        logits: Any = llama_cpp.llama_get_logits_ith(self._context, index)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocab_size,)).argmax())


def main() -> None:
    config_path, matrices, head, path, threads, max_sequences, context = sys.argv[1:8]
    write_qwen3(json.loads(Path(config_path).read_text()), matrices, head, Path(path))
    model = LlamaCpp(
        Path(path), int(threads), max_sequences=int(max_sequences), context=int(context)
    )
    print(json.dumps({"ready": True, "version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = time.perf_counter()
        outputs = model.generate(job["prompts"], job["output_tokens"])
        seconds = time.perf_counter() - start
        tokens = sum(len(output) for output in outputs)
        print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
