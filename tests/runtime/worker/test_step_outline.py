"""A step is the same on another rank, and fits one buffer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from octavo.kernels.packed_step import Packer
from octavo.kernels.step_state import StepLayout
from octavo.worker.gpu.step_outline import StepOutline, pack_frame, unpack_frame

NUMBERS = st.integers(-1, 2**31 - 1)
OUTLINES = st.builds(
    StepOutline,
    st.builds(StepLayout, *[NUMBERS] * 9),
    *[NUMBERS] * 15,
)
SECTIONS = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9), max_size=5)


@given(OUTLINES, SECTIONS)
def test_a_step_is_the_same_after_its_frame(
    outline: StepOutline, sections: list[list[int]]
) -> None:
    packer = Packer()
    places = [packer.put(np.array(one, dtype=np.int32)) for one in sections]
    found, uploaded, packed = unpack_frame(pack_frame(outline, packer))
    assert found == outline
    assert uploaded.size == packer.size == len(packed)
    target = np.full(packer.size, 7, dtype=np.int32)
    uploaded.write(target)
    for place, section in zip(places, sections, strict=True):
        assert target[place : place + len(section)].tolist() == section
