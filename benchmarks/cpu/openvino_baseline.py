"""OpenVINO GenAI's continuous batching in a process of its own, driven by lines of JSON on stdin.

Runs in the interpreter that has `openvino-genai` and `optimum-intel`, which writes the model in OpenVINO's
form first. Products, keys and values are bfloat16, or float32 where the CPU multiplies no bfloat16: 8-bit
keys and values, OpenVINO's default, would be another model. Prefix caching is off.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai

_CACHE_GIB = 3


def export(folder: Path, dummy: bool, target: Path) -> None:
    """Writes model and tokenizer into `target`, unless they are there."""
    if (target / "openvino_detokenizer.xml").exists():
        return
    import torch
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if dummy:
        torch.manual_seed(0)
        source = target / "random"
        config = AutoConfig.from_pretrained(folder)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(source)
        tokenizer.save_pretrained(source)
    model = OVModelForCausalLM.from_pretrained(source, export=True, load_in_8bit=False)
    model.save_pretrained(target)
    encode, decode = convert_tokenizer(tokenizer, with_detokenizer=True)
    ov.save_model(encode, target / "openvino_tokenizer.xml")
    ov.save_model(decode, target / "openvino_detokenizer.xml")


def main() -> None:
    folder, dummy, target, threads, max_num_seqs, dtype = sys.argv[1:7]
    precision = {"bfloat16": "bf16", "float32": "f32"}[dtype]
    answers, sys.stdout = sys.stdout, sys.stderr  # what exports prints to it
    export(Path(folder), dummy == "dummy", Path(target))
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = _CACHE_GIB
    scheduler.max_num_seqs = int(max_num_seqs)
    scheduler.enable_prefix_caching = False
    properties = {
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
        "INFERENCE_NUM_THREADS": int(threads),
    }
    pipeline = genai.ContinuousBatchingPipeline(target, scheduler, "CPU", properties)
    print(json.dumps({"ready": True, "version": genai.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        count = job["output_tokens"]
        params = genai.GenerationConfig()
        params.min_new_tokens = params.max_new_tokens = count
        params.ignore_eos, params.do_sample = True, False
        prompts = [ov.Tensor(np.array([prompt], dtype=np.int64)) for prompt in job["prompts"]]
        start = time.perf_counter()
        results = pipeline.generate(prompts, [params] * len(prompts))
        seconds = time.perf_counter() - start
        tokens = sum(len(result.m_generation_ids[0]) for result in results)
        print(json.dumps({"seconds": seconds, "tokens": tokens}), file=answers, flush=True)


if __name__ == "__main__":
    main()
