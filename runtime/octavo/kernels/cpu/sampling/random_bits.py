"""Philox4x32-10 for CPUs: the reference's words, eight counters at a time, in one pass over the vocabulary
where torch takes a hundred."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import types

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel

COUNTERS = 8
WORDS = 4 * COUNTERS
_I64, _I32 = ir.IntType(64), ir.IntType(32)
# Numbers below 2**32 in lanes of 64 bits: their products are one instruction.
_LANES = ir.VectorType(_I64, COUNTERS)


def _per_block(write: Any) -> Any:
    """An intrinsic of (pointer, offset, seed, position, group): `write(builder, place, words)` gets the words
    of counters `group … group + 7`, which belong to 32 neighbouring tokens."""

    def declare(
        typing_context: Any, target: Any, offset: Any, seed: Any, position: Any, group: Any
    ) -> Any:
        del typing_context, offset, seed, position, group

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            pointer, offset, seed, position, group = arguments
            words = _philox(builder, seed, position, group)
            write(builder, builder.gep(pointer, [offset]), words)
            return context.get_dummy_value()

        number = types.int64
        return types.void(target, number, number, number, number), generate

    return v.intrinsic(declare)


def _store(builder: Any, place: Any, words: Any) -> None:
    builder.store(words, builder.bitcast(place, words.type.as_pointer()), align=4)


def _store_over(builder: Any, place: Any, words: Any) -> None:
    """`(word + 0.5) / weight` in the place of the weight."""
    floats = ir.VectorType(ir.FloatType(), WORDS)
    place = builder.bitcast(place, floats.as_pointer())
    middle = builder.fadd(builder.uitofp(words, floats), ir.Constant(floats, [0.5] * WORDS))
    builder.store(builder.fdiv(middle, builder.load(place, align=4)), place, align=4)


_write_words = _per_block(_store)
divide_words = _per_block(_store_over)


def _philox(builder: Any, seed: Any, position: Any, group: Any) -> Any:
    low, high = _halves(builder, seed)
    first, second = _halves(builder, position)
    groups = builder.add(_spread(builder, group), ir.Constant(_LANES, list(range(COUNTERS))))
    words = _rounds(builder, [groups, first, second, _all(0)], low, high)
    narrow = [builder.trunc(word, ir.VectorType(_I32, COUNTERS)) for word in words]
    lines = _joined(builder, *(_joined(builder, narrow[i], narrow[i + 1]) for i in (0, 2)))
    # Lane i of word w is word w of counter i: token 4 i + w.
    order = [w * COUNTERS + i for i in range(COUNTERS) for w in range(4)]
    return builder.shuffle_vector(lines, ir.Constant(lines.type, ir.Undefined), _indexes(order))


def _rounds(builder: Any, words: list[Any], low: Any, high: Any) -> list[Any]:
    for _ in range(10):
        first = builder.mul(words[0], _all(0xD2511F53))
        third = builder.mul(words[2], _all(0xCD9E8D57))
        words = [
            builder.xor(builder.xor(builder.lshr(third, _all(32)), words[1]), low),
            builder.and_(third, _all(0xFFFFFFFF)),
            builder.xor(builder.xor(builder.lshr(first, _all(32)), words[3]), high),
            builder.and_(first, _all(0xFFFFFFFF)),
        ]
        low = builder.and_(builder.add(low, _all(0x9E3779B9)), _all(0xFFFFFFFF))
        high = builder.and_(builder.add(high, _all(0xBB67AE85)), _all(0xFFFFFFFF))
    return words


def _halves(builder: Any, value: Any) -> tuple[Any, Any]:
    """The low and the high 32 bits of a number, each in all lanes."""
    lanes = _spread(builder, value)
    return builder.and_(lanes, _all(0xFFFFFFFF)), builder.lshr(lanes, _all(32))


def _spread(builder: Any, value: Any) -> Any:
    empty = ir.Constant(_LANES, ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, empty, _indexes([0] * COUNTERS))


def _joined(builder: Any, a: Any, b: Any) -> Any:
    return builder.shuffle_vector(a, b, _indexes(list(range(2 * a.type.count))))


def _all(value: int) -> Any:
    return ir.Constant(_LANES, [value] * COUNTERS)


def _indexes(order: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(order)), order)


@kernel("void(int64, int64, int64, int64, int64)")
def _fill(seeds: int, positions: int, bits: int, rows: int, blocks: int) -> None:
    seed, position, words = v.int64_at(seeds), v.int64_at(positions), v.int32_at(bits)
    for row in range(rows):
        for block in range(blocks):
            at = (row * blocks + block) * WORDS
            _write_words(words, at, seed[row], position[row], block * COUNTERS)


@kernel("void(int64, int64, int64, int64, int64)")
def _fill_at(seeds: int, positions: int, token_ids: int, bits: int, count: int) -> None:
    """Whole counters, `[count, 32]`, of which the first is the token's."""
    seed, position = v.int64_at(seeds), v.int64_at(positions)
    tokens, words = v.int64_at(token_ids), v.int32_at(bits)
    for i in range(count):
        _write_words(words, i * WORDS, seed[i], position[i], tokens[i] // 4)


@kernel("void(int64, int64, int64, int64, int64)")
def _divide(seeds: int, positions: int, weights: int, rows: int, width: int) -> None:
    """The last tokens of a row, too few for a block, are left."""
    seed, position, values = v.int64_at(seeds), v.int64_at(positions), v.float32_at(weights)
    for row in range(rows):
        for block in range(width // WORDS):
            at = row * width + block * WORDS
            divide_words(values, at, seed[row], position[row], block * COUNTERS)


def random_bits(seeds: torch.Tensor, positions: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """See the reference."""
    seeds, positions = seeds.contiguous(), positions.contiguous()
    rows, blocks = seeds.shape[0], -(-vocab_size // WORDS)
    bits = np.empty((rows, blocks * WORDS), dtype=np.uint32)
    _fill(seeds.data_ptr(), positions.data_ptr(), bits.ctypes.data, rows, blocks)
    return torch.from_numpy(bits)[:, :vocab_size]


def random_bits_at(
    seeds: torch.Tensor, positions: torch.Tensor, token_ids: torch.Tensor
) -> torch.Tensor:
    """See the reference."""
    seeds, positions, token_ids = (a.contiguous() for a in (seeds, positions, token_ids))
    count = token_ids.shape[0]
    bits = np.empty((count, WORDS), dtype=np.uint32)
    _fill_at(seeds.data_ptr(), positions.data_ptr(), token_ids.data_ptr(), bits.ctypes.data, count)
    return torch.from_numpy(bits[np.arange(count), token_ids.numpy() % 4])


def divide_by_weights(seeds: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor) -> None:
    """See the reference."""
    seeds, positions = seeds.contiguous(), positions.contiguous()
    rows, width = weights.shape
    if not weights.is_contiguous():
        raise ValueError(f"weights of strides {weights.stride()}; rows must lie one behind another")
    _divide(seeds.data_ptr(), positions.data_ptr(), weights.data_ptr(), rows, width)
    rest = torch.arange(width // WORDS * WORDS, width)
    for row in range(rows if len(rest) else 0):
        stream = seeds[row].expand(len(rest)), positions[row].expand(len(rest))
        words = random_bits_at(*stream, rest)
        weights[row, rest[0] :] = (words.float() + 0.5) / weights[row, rest[0] :]
