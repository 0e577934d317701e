"""Device module. The kernels of this folder as one module, of the shape of `DeviceKernels`."""

from __future__ import annotations

from octavo.kernels.gpu.adapters.expand import adapter_expand
from octavo.kernels.gpu.adapters.shrink import adapter_shrink
from octavo.kernels.gpu.attention.decode_schedule import make_decode_workspace, schedule_decode
from octavo.kernels.gpu.attention.paged_decode import paged_decode
from octavo.kernels.gpu.attention.paged_prefill import paged_prefill
from octavo.kernels.gpu.attention.rope_and_cache import rope_and_cache
from octavo.kernels.gpu.experts.combine import combine_experts
from octavo.kernels.gpu.experts.down import experts_down
from octavo.kernels.gpu.experts.gate_up import experts_gate_up
from octavo.kernels.gpu.experts.group import group_by_expert
from octavo.kernels.gpu.experts.route import route_to_experts
from octavo.kernels.gpu.few_rows.linear_add import linear_add
from octavo.kernels.gpu.few_rows.norm_gate_up import norm_gate_up
from octavo.kernels.gpu.few_rows.norm_linear import norm_linear
from octavo.kernels.gpu.gated_activation import gelu_and_mul, silu_and_mul
from octavo.kernels.gpu.packed.down import packed_experts_down
from octavo.kernels.gpu.packed.gate_up import packed_experts_gate_up
from octavo.kernels.gpu.packed.linear import packed_linear
from octavo.kernels.gpu.rms_norm import add_rms_norm, rms_norm
from octavo.kernels.gpu.sampling.logprobs import top_logprobs
from octavo.kernels.gpu.sampling.penalties import apply_penalties, count_tokens
from octavo.kernels.gpu.sampling.sample import sample
from octavo.kernels.gpu.scaled.linear import scaled_linear
from octavo.kernels.gpu.step_inputs import step_inputs
from octavo.kernels.gpu.tuning.few_rows import MAX_ROWS

__all__ = [
    "adapter_expand",
    "adapter_shrink",
    "add_rms_norm",
    "apply_penalties",
    "combine_experts",
    "count_tokens",
    "experts_down",
    "experts_gate_up",
    "gelu_and_mul",
    "group_by_expert",
    "linear_add",
    "make_decode_workspace",
    "max_fused_rows",
    "norm_gate_up",
    "norm_linear",
    "packed_experts_down",
    "packed_experts_gate_up",
    "packed_linear",
    "paged_decode",
    "paged_prefill",
    "rms_norm",
    "rope_and_cache",
    "route_to_experts",
    "sample",
    "scaled_linear",
    "schedule_decode",
    "silu_and_mul",
    "step_inputs",
    "top_logprobs",
]

max_fused_rows = MAX_ROWS
