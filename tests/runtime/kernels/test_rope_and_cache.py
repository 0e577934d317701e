from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.reference.attention import rope_and_cache as reference
from octavo.layers.rotary import (
    RopeConfig,
    RotaryTable,
    inverse_frequencies,
    paired_channels,
)
from tests.support.kernels.rounding import assert_rounded
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.attention import rope_and_cache as gpu

CPU = torch.device("cpu")


@dataclass
class Case:
    """Inputs of one call; `slots` mixes padding rows with distinct slots in any order."""

    heads: torch.Tensor
    cache: torch.Tensor
    table: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    query_heads: int
    kv_heads: int
    norm: torch.Tensor | None

    @classmethod
    def make(
        cls,
        tokens: int,
        heads: tuple[int, int],
        head_dim: int,
        *,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        has_norm: bool = False,
        block_size: int = 8,
    ) -> Case:
        generator = torch.Generator().manual_seed(tokens * 1000 + head_dim)
        query_heads, kv_heads = heads
        total = query_heads + 2 * kv_heads
        blocks = tokens // block_size + 2
        slots = torch.randperm(blocks * block_size, generator=generator)[:tokens]
        slots[torch.rand(tokens, generator=generator) < 0.3] = -1
        cache = torch.randn(blocks, block_size, 2, kv_heads, head_dim, generator=generator)
        return cls(
            heads=(torch.randn(tokens, total, head_dim, generator=generator) * 3).to(dtype),
            cache=cache.to(cache_dtype),
            table=RotaryTable(RopeConfig(), head_dim, 50, dtype=dtype, device=CPU).table,
            positions=torch.randint(0, 50, (tokens,), generator=generator),
            slots=slots,
            query_heads=query_heads,
            kv_heads=kv_heads,
            norm=torch.randn(query_heads + kv_heads, head_dim, generator=generator).to(dtype)
            if has_norm
            else None,
        )

    def run(self, module: object, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Heads and cache as `module.rope_and_cache` leaves them."""
        heads, cache = self.heads.to(device, copy=True), self.cache.to(device, copy=True)
        module.rope_and_cache(  # type: ignore[attr-defined]
            heads,
            cache,
            self.table.to(device),
            self.positions.to(device),
            self.slots.to(device),
            num_query_heads=self.query_heads,
            num_kv_heads=self.kv_heads,
            head_norm_weight=None if self.norm is None else self.norm.to(device),
        )
        return heads.cpu(), cache.cpu()

    def written(self, heads: torch.Tensor) -> torch.Tensor:
        """The cache after keys and values of such heads, each as torch casts it."""
        keys_values = heads[:, self.query_heads :].view(-1, 2, self.kv_heads, heads.shape[2])
        if self.cache.dtype is torch.float8_e4m3fn:
            keys_values = keys_values.float().clamp(-448, 448)
        cache = self.cache.clone()
        for row, slot in enumerate(self.slots.tolist()):
            if slot >= 0:
                cache.flatten(0, 1)[slot] = keys_values[row].to(cache.dtype)
        return cache


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 7),
    st.sampled_from([(1, 1), (4, 2), (7, 1), (16, 8)]),
    st.sampled_from([16, 48, 64, 80, 128]),
    st.sampled_from(
        [
            (torch.float32, torch.float32),
            (torch.float16, torch.float16),
            (torch.bfloat16, torch.bfloat16),
            (torch.float16, torch.float8_e4m3fn),
            (torch.bfloat16, torch.float8_e4m3fn),
            (torch.float32, torch.bfloat16),
        ]
    ),
    st.booleans(),
)
def test_heads_are_rounded_once_and_stored_as_they_are(
    device: torch.device,
    tokens: int,
    heads: tuple[int, int],
    head_dim: int,
    dtypes: tuple[torch.dtype, torch.dtype],
    has_norm: bool,
) -> None:
    dtype, cache_dtype = dtypes
    case = Case.make(
        tokens, heads, head_dim, dtype=dtype, cache_dtype=cache_dtype, has_norm=has_norm
    )
    heads_, cache = case.run(gpu, device)

    exact, _ = replace(case, heads=case.heads.float()).run(reference, device)
    assert_rounded(heads_, exact)
    assert torch.equal(cache.float(), case.written(heads_).float())
    heads_, cache = case.run(reference, device)
    assert torch.equal(cache.float(), case.written(heads_).float())


def test_the_reference_is_norm_then_rotation_then_a_write_per_slot() -> None:
    case = Case.make(9, (4, 2), 32, dtype=torch.float32, cache_dtype=torch.float32, has_norm=True)
    assert case.norm is not None
    heads, cache = case.run(reference, CPU)

    table = RotaryTable(RopeConfig(), 32, 50, dtype=torch.float32, device=CPU)
    normed = torch.rms_norm(case.heads[:, :6], (32,), None, 1e-6) * case.norm
    rotated = table.rotate_(normed, *table.at(case.positions))
    torch.testing.assert_close(heads[:, :6], rotated)
    assert torch.equal(heads[:, 6:], case.heads[:, 6:])
    expected = case.cache.clone()
    for row, slot in enumerate(case.slots.tolist()):
        if slot >= 0:
            expected[slot // 8, slot % 8, 0] = heads[row, 4:6]
            expected[slot // 8, slot % 8, 1] = heads[row, 6:]
    assert torch.equal(cache, expected)


@pytest.mark.parametrize("module", [reference, gpu], ids=["reference", "kernel"])
@pytest.mark.parametrize(("head_dim", "width"), [(16, 2), (48, 12), (64, 16), (80, 32), (96, 96)])
def test_a_table_of_a_part_of_a_head_turns_that_part(
    device: torch.device, module: object, head_dim: int, width: int
) -> None:
    case = Case.make(5, (4, 2), head_dim, dtype=torch.float32, cache_dtype=torch.float32)
    config = RopeConfig(theta=50.0, width=width)
    case.table = RotaryTable(config, head_dim, 50, dtype=torch.float32, device=CPU).table
    order = paired_channels(head_dim, width)
    stored = case.heads.clone()
    case.heads[:, :6] = stored[:, :6, order]

    heads, cache = case.run(module, device)

    angles = torch.outer(case.positions.float(), inverse_frequencies(config, width))[:, None]
    low, high = stored[:, :6, : width // 2], stored[:, :6, width // 2 : width]
    stored[:, :6, :width] = torch.cat(
        [low * angles.cos() - high * angles.sin(), high * angles.cos() + low * angles.sin()], -1
    )
    expected = torch.cat([stored[:, :6, order], stored[:, 6:]], 1)
    torch.testing.assert_close(heads, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(cache, case.written(heads))


@pytest.mark.parametrize(
    ("module", "dtype", "cache_dtype"),
    [
        (reference, torch.float32, torch.bfloat16),
        (reference, torch.float16, torch.bfloat16),
        (gpu, torch.float32, torch.bfloat16),
        (gpu, torch.float16, torch.bfloat16),
        (gpu, torch.bfloat16, torch.float32),
    ],
)
def test_a_cache_of_another_dtype_takes_keys_and_values_rounded_to_nearest(
    device: torch.device, module: object, dtype: torch.dtype, cache_dtype: torch.dtype
) -> None:
    case = Case.make(6, (4, 2), 32, dtype=dtype, cache_dtype=cache_dtype)
    case.slots = torch.arange(6)

    heads, cache = case.run(module, device)

    stored = cache.flatten(0, 1)[:6].flatten(1, 2)
    assert torch.equal(stored, heads[:, 4:].to(cache_dtype))


@pytest.mark.parametrize("module", [reference, gpu], ids=["reference", "kernel"])
def test_padding_rows_leave_the_cache_alone(device: torch.device, module: object) -> None:
    case = Case.make(5, (2, 1), 16, dtype=torch.float32, cache_dtype=torch.float32)
    case.slots.fill_(-1)
    assert torch.equal(case.run(module, device)[1], case.cache)
    case.slots[3] = 0
    written = case.run(module, device)[1]
    assert torch.equal(written[0, 0, 1], case.heads[3, 3:])
    assert torch.equal(written.flatten(0, 1)[1:], case.cache.flatten(0, 1)[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_fp8_cache_takes_every_value_as_torch_casts_it(
    device: torch.device, dtype: torch.dtype
) -> None:
    values = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    case = Case.make(
        values.numel() // 2048, (1, 8), 256, dtype=dtype, cache_dtype=torch.float8_e4m3fn
    )
    case.heads[:, 9:] = values.view(-1, 8, 256)
    case.slots = torch.arange(case.heads.shape[0])
    stored = case.run(gpu, device)[1].flatten(0, 1)[: case.heads.shape[0], 1].flatten()
    expected = values.float().clamp(-448, 448).to(torch.float8_e4m3fn)
    is_number = ~values.isnan()
    assert torch.equal(stored[is_number].float(), expected[is_number].float())
    assert stored[~is_number].float().isnan().all()


def test_layouts_that_would_be_misread_are_refused(device: torch.device) -> None:
    case = Case.make(2, (2, 1), 16, dtype=torch.float32, cache_dtype=torch.float32)
    case.query_heads = 3
    with pytest.raises(ValueError, match="make 5"):
        case.run(gpu, device)
