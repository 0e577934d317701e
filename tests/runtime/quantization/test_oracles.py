"""Stored weights are, to the bit, what other readers of the same tensors make of them.

The tensors are random words: every code, zero and order that a format can hold, not those that a rounding
happens to give. What compressed-tensors writes itself is read here, too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from octavo.loading import SafetensorsWeights
from octavo.quantization import stored_format
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.quantised_checkpoints import bit_stream

NAME = "model.layers.0.mlp.up_proj"
SEEDS = st.integers(0, 2**31)


def read(config: dict[str, Any], width: int, depth: int, tensors: dict[str, Any]) -> torch.Tensor:
    """What our reader makes of a file that holds a module's tensors, float32."""
    with tempfile.TemporaryDirectory() as folder:
        stored = {f"{NAME}.{key}": one.contiguous() for key, one in tensors.items()}
        save_file(stored, Path(folder) / "model.safetensors")
        source = SafetensorsWeights(Path(folder))
        found = stored_format(config).read(NAME, width, depth, source)
        source.finish(lambda _: False)
    assert found is not None
    return found.dequantize()


def random_words(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)


def random_scales(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(*shape, generator=generator).add(0.01)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, eights=st.integers(2, 9), groups=st.integers(1, 4), group=st.integers(1, 40))
def test_awq_is_as_compressed_tensors_converts_it(
    seed: int, eights: int, groups: int, group: int
) -> None:
    needs_module(Requirement.COMPRESSED_TENSORS)
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
    from compressed_tensors.quantization import QuantizationScheme

    generator = torch.Generator().manual_seed(seed)
    width, depth = 8 * eights, groups * group
    tensors = {
        "qweight": random_words(depth, eights, generator=generator),
        "qzeros": random_words(groups, eights, generator=generator),
        "scales": random_scales(groups, width, generator=generator).half(),
    }
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm"}
    ours = read(config, width, depth, tensors)

    converter = AutoAWQConverter(group_size=group)
    named = {f"{NAME}.{key}": one.clone() for key, one in tensors.items()}
    converted = {key.removeprefix(f"{NAME}."): one for key, one in converter.process(named).items()}
    converted["weight_scale"] = converted["weight_scale"].float()
    weights = {"num_bits": 4, "symmetric": False, "strategy": "group", "group_size": group}
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    theirs = PackedQuantizationCompressor.decompress(converted, scheme)["weight"]
    assert torch.equal(ours, theirs)


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    bits=st.integers(2, 8),
    is_symmetric=st.booleans(),
    width=st.integers(17, 70),
    groups=st.integers(1, 4),
    group=st.integers(1, 40),
    strategy=st.sampled_from(["group", "channel"]),
    is_packed=st.booleans(),
)
def test_integers_are_as_compressed_tensors_writes_and_reads_them(
    seed: int,
    bits: int,
    is_symmetric: bool,
    width: int,
    groups: int,
    group: int,
    strategy: str,
    is_packed: bool,
) -> None:
    needs_module(Requirement.COMPRESSED_TENSORS)
    from compressed_tensors.compressors.naive_quantized.base import IntQuantizationCompressor
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationScheme

    generator = torch.Generator().manual_seed(seed)
    depth, half = groups * group, 1 << (bits - 1)
    num_scales = groups if strategy == "group" else 1
    plain = {
        "weight": torch.randn(width, depth, generator=generator) * half,
        "weight_scale": random_scales(width, num_scales, generator=generator),
    }
    if not is_symmetric:
        size = (width, num_scales)
        zeros = torch.randint(-half, half, size, generator=generator)
        plain["weight_zero_point"] = zeros.to(torch.int8)
    weights = {"num_bits": bits, "type": "int", "symmetric": is_symmetric, "strategy": strategy}
    weights |= {"group_size": group} if strategy == "group" else {}
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    kind = PackedQuantizationCompressor if is_packed else IntQuantizationCompressor
    stored = kind.compress(plain, scheme)
    theirs = kind.decompress(stored, scheme)["weight"]
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized" if is_packed else "int-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    assert torch.equal(read(config, width, depth, stored), theirs)


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    width=st.integers(1, 70),
    groups=st.integers(1, 4),
    group=st.integers(1, 40),
    rows=st.integers(1, 40),
    strategy=st.sampled_from(["tensor", "channel", "group", "block"]),
)
def test_float8_is_as_compressed_tensors_writes_and_reads_it(
    seed: int, width: int, groups: int, group: int, rows: int, strategy: str
) -> None:
    """Whole blocks: of others it does not read what it writes."""
    needs_module(Requirement.COMPRESSED_TENSORS)
    from compressed_tensors.compressors.naive_quantized.base import FloatQuantizationCompressor
    from compressed_tensors.quantization import QuantizationScheme

    generator = torch.Generator().manual_seed(seed)
    depth, width = groups * group, width * rows if strategy == "block" else width
    shape = {
        "tensor": (1,),
        "channel": (width, 1),
        "group": (width, groups),
        "block": (width // rows, groups),
    }[strategy]
    plain = {
        "weight": torch.randn(width, depth, generator=generator) * 100,
        "weight_scale": random_scales(*shape, generator=generator),
    }
    weights: dict[str, Any] = {"num_bits": 8, "type": "float", "strategy": strategy}
    weights |= {"group_size": group} if strategy == "group" else {}
    weights |= {"block_structure": [rows, group]} if strategy == "block" else {}
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    stored = FloatQuantizationCompressor.compress(plain, scheme)
    theirs = FloatQuantizationCompressor.decompress(stored, scheme)["weight"]
    config = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    assert torch.equal(read(config, width, depth, stored), theirs)


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    width=st.integers(1, 70),
    depth=st.integers(1, 70),
    block=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_float8_in_blocks_is_as_compressed_tensors_dequantises_it(
    seed: int, width: int, depth: int, block: tuple[int, int]
) -> None:
    needs_module(Requirement.COMPRESSED_TENSORS)
    from compressed_tensors.entrypoints.convert.converters.fp8block_dequantizer import (
        FP8BlockDequantizer,
    )

    generator = torch.Generator().manual_seed(seed)
    rows, columns = -(-width // block[0]), -(-depth // block[1])
    tensors = {
        "weight": (100 * torch.randn(width, depth, generator=generator)).to(torch.float8_e4m3fn),
        "weight_scale_inv": random_scales(rows, columns, generator=generator),
    }
    named = {f"{NAME}.{key}": one.clone() for key, one in tensors.items()}
    dequantise = FP8BlockDequantizer(
        targets=["Linear"], weight_block_size=block, dtype=torch.float32
    )
    theirs = dequantise.process(named)[f"{NAME}.weight"]
    config = {"quant_method": "fp8", "weight_block_size": list(block)}
    assert torch.equal(read(config, width, depth, tensors), theirs)


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    bits=st.sampled_from([2, 3, 4, 8]),
    is_second=st.booleans(),
    order=st.sampled_from(["own", "of groups", "none"]),
    widths=st.integers(1, 3),
    groups=st.integers(1, 3),
    group=st.sampled_from([32, 64]),
)
def test_gptq_is_as_its_definition_has_it(
    seed: int, bits: int, is_second: bool, order: str, widths: int, groups: int, group: int
) -> None:
    """Zeros of the older form end one before the top: there writers and readers differ, and it is refused."""
    generator = torch.Generator().manual_seed(seed)
    width, depth, most = 32 * widths, groups * group, (1 << bits) - 1
    offset = 0 if is_second else 1
    codes = torch.randint(0, most + 1, (depth, width), generator=generator)
    zeros = torch.randint(offset, most + 1, (groups, width), generator=generator)
    group_of = torch.arange(depth) // group
    if order == "of groups":
        group_of = group_of[torch.randperm(depth, generator=generator)]
    tensors = {
        "qweight": bit_stream(codes.T.contiguous(), bits).T.contiguous(),
        "qzeros": bit_stream(zeros - offset, bits),
        "scales": random_scales(groups, width, generator=generator).half(),
        "g_idx": group_of.to(torch.int32),
    }
    if order == "none":
        del tensors["g_idx"]
    config = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group,
        "sym": False,
        "desc_act": order == "of groups",
        "checkpoint_format": "gptq_v2" if is_second else "gptq",
    }
    ours = read(config, width, depth, tensors)
    scales = tensors["scales"].float()
    defined = (codes - zeros[group_of]) * scales[group_of]
    assert torch.equal(ours, defined.T)
