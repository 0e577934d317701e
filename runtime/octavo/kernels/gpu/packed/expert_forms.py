"""Forms of experts with packed weights: what both of their products share, and which are compiled without a
GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from octavo.kernels.expert_gate import SILU, ExpertGate
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration
from octavo.kernels.gpu.packed.planes import constants_of
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS
from octavo.kernels.gpu.tuning.packed import PackedConfig, packed_config
from octavo.kernels.reference.weight_only import Code


@triton.jit
def of_expert(pointer, expert, SIZE: tl.constexpr):
    """Where one expert's numbers begin."""
    return pointer + expert.to(tl.int64) * SIZE


@triton.jit
def scale_rows(scales, DEPTH: tl.constexpr, GROUP: tl.constexpr, BLOCKS: tl.constexpr):
    """Rows of a weight's scales: a word for each block in MXFP4."""
    return BLOCKS if scales.dtype.element_ty == tl.int32 else DEPTH // GROUP


@dataclass(frozen=True, slots=True)
class ExpertForm:
    """Experts as they are compiled without a GPU: Mixtral's sizes where nothing else is said."""

    code: Code
    group: int
    block_rows: int
    capability: int
    has_zeros: bool = False
    hidden: int = 4096
    width: int = 14336
    per_token: int = 2
    gate: ExpertGate = SILU
    has_bias: bool = False

    def configuration(
        self,
        name: str,
        kernel: object,
        arguments: Mapping[str, str],
        constants: Mapping[str, object],
        depth: int,
    ) -> ShippedConfiguration:
        """Of a product of so many inputs."""
        config = self._config
        absent = {"zeros": self.has_zeros, "bias": self.has_bias}
        return ShippedConfiguration(
            name=f"{name}-{self.code.value}-{self.block_rows}",
            kernel=kernel,
            arguments=arguments,
            constants={
                "BLOCK_ROWS": self.block_rows,
                "TILES_TOGETHER": config.group,
                **{one: None for one, is_there in absent.items() if not is_there},
                **constants_of(self.code, depth, self.group),
                **constants,
            },
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            divisible=frozenset({"x_stride"}),
            capabilities=(self.capability,),
            shares_tiles_with=COMPACT_CHIPS if self.capability == 80 else (),
            uses_wgmma=config.rows >= 64,
            overlaps_copies=True,
            max_narrow_loads=4 if self.has_zeros else 1,
        )

    @property
    def _config(self) -> PackedConfig:
        return packed_config(torch.bfloat16, self.block_rows)


def shipped_experts() -> Iterator[tuple[ExpertForm, PackedConfig, dict[str, str]]]:
    """Each with the types of the arguments that both products have."""
    forms = [
        form
        for capability in (80, 90)
        for form in (
            ExpertForm(Code.INT4, 128, 16, capability, has_zeros=True),
            ExpertForm(Code.INT4, 32, 128, capability),
            ExpertForm(Code.FLOAT8, 128, 64, capability),
        )
    ]
    # gpt-oss: inputs are no whole number of blocks.
    gate = ExpertGate(alpha=1.702, limit=7.0, shift=1.0)
    for block_rows, capability in ((16, 80), (16, 89), (128, 90)):
        forms.append(
            ExpertForm(
                Code.MXFP4,
                32,
                block_rows,
                capability,
                hidden=2880,
                width=2880,
                per_token=4,
                gate=gate,
                has_bias=True,
            )
        )
    for form in forms:
        yield (
            form,
            packed_config(torch.bfloat16, form.block_rows),
            {
                "words": "*i32",
                "scales": "*i32" if form.code is Code.MXFP4 else "*fp32",
                "zeros": "*i8",
                "bias": "*bf16",
                "order": "*i32",
                "tiles": "*i32",
                "out": "*bf16",
                "num_tiles": "i32",
            },
        )
