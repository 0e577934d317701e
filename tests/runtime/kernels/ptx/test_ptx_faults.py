"""A kernel that lost one line of its PTX is caught: the emulator sees what a GPU would do to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.attention_options import AttentionOptions
from tests.support.kernels.attention_launches import decode, exact_decode, exact_prefill, prefill
from tests.support.kernels.kept_binaries import kept_binaries
from tests.support.kernels.paged_batches import TOLERANCE, PagedBatch, paged_batch, relative_error
from tests.support.ptx_emulator.launch import emulated_launches
from tests.support.ptx_emulator.machine import ExecutionFault
from tests.support.ptx_emulator.memory import AccessFault
from tests.support.ptx_emulator.races import RaceFault

CPU, BF16 = torch.device("cpu"), torch.bfloat16
OPTIONS = AttentionOptions(scale=128**-0.5)
FAULTS = (AccessFault, ExecutionFault, RaceFault)


@pytest.fixture(scope="module", autouse=True)
def binaries() -> Iterator[None]:
    with kept_binaries():
        yield


def batch_of(context_lens: list[int], query_lens: list[int]) -> PagedBatch:
    return paged_batch(
        context_lens, query_lens, heads=8, kv_heads=2, head_dim=128, page=16, dtype=BF16
    )


def decode_is_wrong(edit: Callable[[str], str], processors: int = 2) -> bool:
    """Of contexts that more `processors` cut more finely."""
    batch = batch_of([400, 17], [1, 1])
    with emulated_launches(80, edit=edit):
        try:
            got = decode(batch, OPTIONS, CPU, processors)
        except FAULTS:
            return True
    return not relative_error(got, exact_decode(batch, OPTIONS)) < TOLERANCE[BF16]


def prefill_is_wrong(edit: Callable[[str], str]) -> bool:
    batch = batch_of([300, 70], [150, 70])
    with emulated_launches(90, edit=edit):
        try:
            got = prefill(batch, OPTIONS, CPU)
        except FAULTS:
            return True
    return not relative_error(got, exact_prefill(batch, OPTIONS)) < TOLERANCE[BF16]


class Without:
    """Takes the `which`-th line that matches out of a kernel; `count` says how many there are."""

    def __init__(self, kernel: str, pattern: str, which: int) -> None:
        self._kernel = kernel
        self._pattern = re.compile(rf"^\s*{pattern}.*;$", re.MULTILINE)
        self._which = which
        self.count = 0

    def __call__(self, text: str) -> str:
        if f".entry {self._kernel}(" not in text:
            return text
        found = list(self._pattern.finditer(text))
        self.count = len(found)
        line = found[self._which]
        return text[: line.start()] + text[line.end() :]


def test_nothing_is_found_where_nothing_is_lost() -> None:
    assert not decode_is_wrong(lambda text: text)
    assert not decode_is_wrong(lambda text: text, processors=12)
    assert not prefill_is_wrong(lambda text: text)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_copies_that_are_not_waited_for_are_noticed(which: int) -> None:
    assert decode_is_wrong(Without("_decode", r"cp\.async\.wait_group", which))


def test_a_barrier_of_the_loop_is_missed() -> None:
    assert decode_is_wrong(Without("_decode", r"bar\.sync", 2))


def test_the_merge_of_pieces_needs_its_barrier_and_its_order() -> None:
    """Else one program reads the pieces of others before they are there."""

    def without_barriers_before_the_count(text: str) -> str:
        head, count, tail = text.partition("atom.global")
        before, store, after = head.rpartition("st.global")
        return before + store + after.replace("bar.sync", "// bar.sync") + count + tail

    assert decode_is_wrong(without_barriers_before_the_count, processors=12)
    relaxed = lambda text: text.replace("gpu.acq_rel.add", "gpu.relaxed.add")  # noqa: E731
    assert decode_is_wrong(relaxed, processors=12)


@pytest.mark.parametrize(
    "pattern", [r"fence\.proxy\.async", r"wgmma\.wait_group", r"cp\.async\.wait_group"]
)
def test_hoppers_products_need_their_fences_and_waits(pattern: str) -> None:
    edit = Without("_prefill", pattern, 0)
    assert prefill_is_wrong(edit)
    assert edit.count > 1


def test_a_vector_at_an_odd_address_is_a_fault() -> None:
    def moved(text: str) -> str:
        return re.sub(r"(ld\.global\.v4\.b32 \{[^}]*\}, \[ %rd\d+ \+ )0", r"\g<1>4", text)

    with emulated_launches(80, edit=moved), pytest.raises(AccessFault, match="misaligned"):
        decode(batch_of([40], [1]), OPTIONS, CPU)
