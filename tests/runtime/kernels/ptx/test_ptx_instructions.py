"""Single instructions against what the PTX ISA says of them, in programs of a few lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)

from tests.support.ptx_emulator.launch import meaning, run_grid
from tests.support.ptx_emulator.machine import ExecutionFault, decode
from tests.support.ptx_emulator.memory import AccessFault
from tests.support.ptx_emulator.program import parse
from tests.support.ptx_emulator.races import RaceFault

LANE = torch.arange(32, dtype=torch.int32)


def run(
    body: str, *tensors: torch.Tensor, threads: int = 32, blocks: int = 1, shared: int = 4096
) -> None:
    """Runs the statements; %rd0, %rd1… are the tensors' addresses, %r0 the thread's index."""
    names = [f"k_param_{index}" for index in range(len(tensors))]
    parameters = ",".join(f".param .u64 .ptr .global .align 1 {name}" for name in names)
    loads = "".join(f"ld.param.b64 %rd{index}, [{name}];\n" for index, name in enumerate(names))
    text = f"""
.visible .entry k(
{parameters}
)
.reqntid {threads}
{{
.reg .pred %p<9>;
.reg .b16 %rs<9>;
.reg .b32 %r<40>;
.reg .b64 %rd<19>;
{loads}
mov.u32 %r0, %tid.x;
{body}
ret;
}}
"""
    arguments: list[tuple[str, str, object]] = [
        (name, "*", tensor) for name, tensor in zip(names, tensors, strict=True)
    ]
    run_grid(
        decode(parse(text), meaning), (blocks, 1, 1), arguments, shared, np.random.default_rng(0)
    )


def result_of(body: str, source: torch.Tensor) -> torch.Tensor:
    """%r2 of each thread after statements that find the source's 32 bits in %r1."""
    out = torch.zeros(32, dtype=source.dtype)
    load = "mul.wide.u32 %rd9, %r0, 4; add.s64 %rd10, %rd0, %rd9; add.s64 %rd11, %rd1, %rd9;"
    run(
        f"{load} ld.global.b32 %r1, [%rd10]; {body} st.global.b32 [%rd11], %r2;",
        source.contiguous(),
        out,
    )
    return out


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        ("bfly.b32 %r2, %r1, 5, 31, -1", LANE ^ 5),
        ("up.b32 %r2, %r1, 3, 0, -1", torch.where(LANE >= 3, LANE - 3, LANE)),
        ("idx.b32 %r2, %r1, 7, 31, -1", torch.full_like(LANE, 7)),
    ],
)
def test_values_are_shuffled(arguments: str, source: torch.Tensor) -> None:
    assert torch.equal(result_of(f"shfl.sync.{arguments};", LANE * 10), source * 10)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("redux.sync.add.s32 %r2, %r1, -1;", (LANE - 9).sum().expand(32)),
        ("bfe.s32 %r2, %r1, 1, 3;", (((LANE - 9) >> 1 & 7) ^ 4) - 4),
        ("prmt.b32 %r2, %r1, 0, 0x5410;", (LANE - 9) & 0xFFFF),
        ("shr.s32 %r2, %r1, 40;", (LANE - 9) >> 31),
        ("mul.hi.s32 %r2, %r1, 1073741824;", (LANE - 9) >> 2),
        ("div.s32 %r2, %r1, 4;", torch.div(LANE - 9, 4, rounding_mode="trunc")),
    ],
)
def test_integer_instructions_give_what_the_manual_says(body: str, expected: torch.Tensor) -> None:
    assert torch.equal(result_of(body, LANE - 9), expected.int())


HARD = torch.tensor([0.0, -0.0, 1.00390625, 1.01171875, 3e38, -torch.inf, 1e-40, -2.5, 2.5, 1e9])


def test_conversions_round_to_even_and_saturate() -> None:
    source = HARD.repeat(4)[:32]
    halves = result_of("cvt.rn.bf16x2.f32 %r2, %r1, 0f3F800000;", source)
    assert torch.equal(halves.view(torch.bfloat16)[1::2], source.to(torch.bfloat16))
    assert (halves.view(torch.bfloat16)[::2] == 1).all()
    whole = result_of("cvt.rzi.s32.f32 %r2, %r1;", source).view(torch.int32)
    exact = source.double().trunc().clamp(-(2.0**31), 2.0**31 - 1).to(torch.int32)
    assert torch.equal(whole, exact)


def test_tensor_cores_multiply_what_matrices_are_loaded_as() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(16, 16, generator=generator).to(torch.bfloat16)
    b = torch.randn(16, 8, generator=generator).to(torch.bfloat16)
    out = torch.zeros(16, 8)
    run(
        """
        shl.b32 %r1, %r0, 4; mul.wide.u32 %rd9, %r0, 16;
        add.s64 %rd10, %rd0, %rd9; add.s64 %rd11, %rd1, %rd9;
        ld.global.v4.b32 {%r2, %r3, %r4, %r5}, [%rd10];
        mov.b32 %r6, global_smem; add.s32 %r7, %r6, %r1;
        st.shared.v4.b32 [%r7], {%r2, %r3, %r4, %r5};
        setp.lt.s32 %p1, %r0, 16;
        @%p1 ld.global.v4.b32 {%r2, %r3, %r4, %r5}, [%rd11];
        @%p1 st.shared.v4.b32 [%r7+512], {%r2, %r3, %r4, %r5};
        bar.sync 0;
        and.b32 %r8, %r0, 15; shl.b32 %r8, %r8, 5; shr.u32 %r9, %r0, 4; shl.b32 %r9, %r9, 4;
        add.s32 %r8, %r8, %r9; add.s32 %r8, %r8, %r6;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r8];
        and.b32 %r14, %r0, 15; shl.b32 %r14, %r14, 4; add.s32 %r14, %r14, %r6;
        ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r15, %r16}, [%r14+512];
        mov.b32 %r17, 0;
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r20, %r21, %r22, %r23},
            {%r10, %r11, %r12, %r13}, {%r15, %r16}, {%r17, %r17, %r17, %r17};
        shr.u32 %r24, %r0, 2; shl.b32 %r24, %r24, 5; and.b32 %r25, %r0, 3; shl.b32 %r25, %r25, 3;
        add.s32 %r24, %r24, %r25; cvt.u64.u32 %rd12, %r24; add.s64 %rd12, %rd12, %rd2;
        st.global.v2.b32 [%rd12], {%r20, %r21}; st.global.v2.b32 [%rd12+256], {%r22, %r23};
        """,
        a,
        b,
        out,
    )
    torch.testing.assert_close(out.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)


def test_an_address_outside_of_the_tensors_is_a_fault() -> None:
    with pytest.raises(AccessFault, match="outside of every tensor"):
        run("ld.global.b32 %r1, [%rd0+4];", torch.zeros(1))
    with pytest.raises(AccessFault, match="shared memory"):
        run("mov.b32 %r1, global_smem; ld.shared.b32 %r2, [%r1+64];", shared=64)
    # No thread is active.
    run("setp.lt.s32 %p1, %r0, 0; @%p1 ld.global.b32 %r1, [%rd0+4];", torch.zeros(1))


def test_threads_that_part_meet_again_or_are_reported() -> None:
    parted = "setp.lt.s32 %p1, %r0, 7; @%p1 bra $L; mov.b32 %r1, 1; {} $L: {}"
    run(parted.format("", "bar.sync 0;"))
    with pytest.raises(ExecutionFault, match="others never reach"):
        run(parted.format("bar.sync 0;", "add.s32 %r1, %r1, 1;"), threads=64)
    with pytest.raises(ExecutionFault, match="mask"):
        run(parted.format("redux.sync.add.s32 %r2, %r0, -1;", "add.s32 %r1, %r1, 1;"))


def test_blocks_have_no_order_but_that_of_an_atomic() -> None:
    """The first writes, whoever comes last reads."""
    body = """
        mov.u32 %r1, %ctaid.x; mul.wide.u32 %rd9, %r1, 4; add.s64 %rd9, %rd9, %rd0;
        setp.eq.s32 %p1, %r0, 0;
        @%p1 st.global.b32 [%rd9], %r1;
        bar.sync 0;
        @%p1 atom.global.gpu.{}.add.u32 %r2, [%rd1], 1;
        @%p1 st.shared.b32 [global_smem], %r2;
        bar.sync 0;
        ld.shared.b32 %r3, [global_smem];
        setp.ne.s32 %p2, %r3, 1; @%p2 bra $L;
        ld.global.b32 %r4, [%rd0]; ld.global.b32 %r5, [%rd0+4];
        $L: add.s32 %r1, %r1, 1;
    """
    values, count = torch.zeros(2, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    run(body.format("acq_rel"), values, count, threads=64, blocks=2)
    assert values.tolist() == [0, 1]
    with pytest.raises(RaceFault, match="nothing orders"):
        run(body.format("relaxed"), values, torch.zeros_like(count), threads=64, blocks=2)
