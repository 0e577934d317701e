"""Scale. The sizes of every measurement: the real ones, and those of a smoke run that only shows that all
runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Lengths and contexts are tokens, windows seconds, rates requests per second."""

    is_smoke: bool
    # The device's ceilings
    copy_bytes: int
    matrix_side: int
    # Attention
    attention_batches: tuple[int, ...]
    attention_contexts: tuple[int, ...]
    attention_pool_tokens: int
    # The engine
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    kv_cache_bytes: int | None
    decode_batches: tuple[int, ...]
    decode_context: int
    decode_steps: int
    prefill_prompt: int
    prefill_batches: int
    first_token_prompts: tuple[int, ...]
    first_token_repeats: int
    saturated_prompt: int
    saturated_output: int
    saturated_window: float
    mix_requests: int
    mix_shortest: int
    mix_longest: int
    request_rates: tuple[float, ...]
    rate_window: float
    overhead_batches: tuple[int, ...]
    overhead_steps: int
    # Against transformers
    single_prompt: int
    single_output: int
    baseline_longest: int
    static_batch: int
    paged_requests: int


FULL = Scale(
    is_smoke=False,
    copy_bytes=4 * 2**30,
    matrix_side=8192,
    attention_batches=(1, 8, 32, 128, 256),
    attention_contexts=(512, 1024, 4096, 16384),
    attention_pool_tokens=1_048_576,
    max_num_seqs=256,
    max_num_batched_tokens=8192,
    max_model_len=9216,
    kv_cache_bytes=None,
    decode_batches=(1, 8, 32, 256),
    decode_context=1024,
    decode_steps=64,
    prefill_prompt=1024,
    prefill_batches=4,
    first_token_prompts=(1024, 8192),
    first_token_repeats=5,
    saturated_prompt=1000,
    saturated_output=1000,
    saturated_window=12.0,
    mix_requests=256,
    mix_shortest=100,
    mix_longest=1024,
    request_rates=(4.0, 16.0),
    rate_window=8.0,
    overhead_batches=(1, 32, 256),
    overhead_steps=32,
    single_prompt=128,
    single_output=128,
    baseline_longest=512,
    static_batch=32,
    paged_requests=64,
)

SMOKE = Scale(
    is_smoke=True,
    copy_bytes=2**20,
    matrix_side=64,
    attention_batches=(1, 2),
    attention_contexts=(20, 64),
    attention_pool_tokens=512,
    max_num_seqs=4,
    max_num_batched_tokens=64,
    max_model_len=128,
    kv_cache_bytes=2**20,
    decode_batches=(1, 4),
    decode_context=16,
    decode_steps=4,
    prefill_prompt=16,
    prefill_batches=2,
    first_token_prompts=(8, 32),
    first_token_repeats=2,
    saturated_prompt=10,
    saturated_output=10,
    saturated_window=0.2,
    mix_requests=6,
    mix_shortest=5,
    mix_longest=20,
    request_rates=(50.0,),
    rate_window=0.2,
    overhead_batches=(2,),
    overhead_steps=3,
    single_prompt=8,
    single_output=8,
    baseline_longest=12,
    static_batch=3,
    paged_requests=3,
)
