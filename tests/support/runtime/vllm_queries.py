"""Queries of vLLM's metrics, as the programs that were made for it ship them.

Each query as its source has it, with Grafana's variables filled in; and the types and labels that vLLM
publishes (its `v1/metrics/loggers.py`, 0.33).
"""

from __future__ import annotations

_LATENCIES = (
    "e2e_request_latency_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "time_to_first_token_seconds",
)

GRAFANA = (
    *(
        f'histogram_quantile({quantile}, sum by(le) (rate(vllm:{name}_bucket{{model_name="demo"}}[1m])))'
        for name in _LATENCIES
        for quantile in (0.5, 0.9, 0.95, 0.99)
    ),
    *(
        f'rate(vllm:{name}_sum{{model_name="demo"}}[1m])\n/\n'
        f'rate(vllm:{name}_count{{model_name="demo"}}[1m])'
        for name in _LATENCIES
    ),
    'rate(vllm:prompt_tokens_total{model_name="demo"}[1m])',
    'rate(vllm:generation_tokens_total{model_name="demo"}[1m])',
    'vllm:num_requests_running{model_name="demo"}',
    'vllm:num_requests_waiting{model_name="demo"}',
    'vllm:kv_cache_usage_perc{model_name="demo"}',
    'sum by(le) (increase(vllm:request_prompt_tokens_bucket{model_name="demo"}[1m]))',
    'sum by(le) (increase(vllm:request_generation_tokens_bucket{model_name="demo"}[1m]))',
    'sum by(finished_reason) (increase(vllm:request_success_total{model_name="demo"}[1m]))',
    'rate(vllm:request_queue_time_seconds_sum{model_name="demo"}[1m])',
    'rate(vllm:request_prefill_time_seconds_sum{model_name="demo"}[1m])',
    'rate(vllm:request_decode_time_seconds_sum{model_name="demo"}[1m])',
    'rate(vllm:request_max_num_generation_tokens_sum{model_name="demo"}[1m])',
)
"""vLLM's own dashboard, and production-stack's for a model."""

PRODUCTION_STACK = (
    "avg(vllm:e2e_request_latency_seconds_sum) / avg(vllm:e2e_request_latency_seconds_count)",
    "sum by(le) (vllm:e2e_request_latency_seconds_bucket)",
    "sum by(le) (vllm:time_to_first_token_seconds_bucket)",
    "vllm:kv_cache_usage_perc",
    "vllm:num_requests_running",
    "vllm:time_to_first_token_seconds_sum / vllm:time_to_first_token_seconds_count",
    "rate(vllm:prefix_cache_hits_total[5m]) / rate(vllm:prefix_cache_queries_total[5m])",
)

KEDA = (
    "vllm:num_requests_waiting",
    'vllm:num_requests_waiting{model="demo"}',  # `model` is a label of the pod, put on by the scrape
    "sum by(namespace) (vllm:num_requests_waiting)",
)
"""production-stack's ScaledObject, and its rule of the Prometheus adapter."""

PICKERS = {
    "vllm:num_requests_waiting": set(),
    "vllm:num_requests_running": set(),
    "vllm:kv_cache_usage_perc": set(),
    "vllm:cache_config_info": {"block_size", "num_gpu_blocks"},
}
"""Gauges, with the labels they are read for: the endpoint picker of the Gateway API Inference Extension and
llm-d's router, by the defaults of their flags. `vllm:lora_requests_info` is there where adapters may be, and
held beside them."""

PUBLISHED = {
    "num_requests_running": ("gauge", ""),
    "num_requests_waiting": ("gauge", ""),
    "num_requests_waiting_by_reason": ("gauge", "reason"),
    "engine_sleep_state": ("gauge", "sleep_state"),
    "kv_cache_usage_perc": ("gauge", ""),
    "prefix_cache_queries": ("counter", ""),
    "prefix_cache_hits": ("counter", ""),
    "external_prefix_cache_queries": ("counter", ""),
    "external_prefix_cache_hits": ("counter", ""),
    "mm_cache_queries": ("counter", ""),
    "mm_cache_hits": ("counter", ""),
    "num_preemptions": ("counter", ""),
    "prompt_tokens": ("counter", ""),
    "prompt_tokens_by_source": ("counter", "source"),
    "prompt_tokens_cached": ("counter", ""),
    "generation_tokens": ("counter", ""),
    "request_success": ("counter", "finished_reason"),
    "request_prompt_tokens": ("histogram", ""),
    "request_generation_tokens": ("histogram", ""),
    "request_max_num_generation_tokens": ("histogram", ""),
    "request_params_n": ("histogram", ""),
    "request_params_max_tokens": ("histogram", ""),
    "time_to_first_token_seconds": ("histogram", ""),
    "inter_token_latency_seconds": ("histogram", ""),
    "request_time_per_output_token_seconds": ("histogram", ""),
    "e2e_request_latency_seconds": ("histogram", ""),
    "request_queue_time_seconds": ("histogram", ""),
    "request_inference_time_seconds": ("histogram", ""),
    "request_prefill_time_seconds": ("histogram", ""),
    "request_decode_time_seconds": ("histogram", ""),
    "request_prefill_kv_computed_tokens": ("histogram", ""),
}
"""Without the prefix `vllm:`: the type, and the label beside `model_name` and `engine`."""
