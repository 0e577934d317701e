"""Drafts are scored as tokens are that come one by one, by every family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.rank_threads import DRAFTED, FIRST, scores, sequence
from tests.support.runtime.shared_kinds import KINDS, SIZES


@pytest.mark.parametrize("kind", KINDS)
def test_drafts_are_scored_as_single_tokens_are(kind: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    family, changes = KINDS[kind]
    make_checkpoint(tmp_path, family, **{**SIZES, **changes})
    end = len(FIRST)
    one_by_one = [[sequence(0, [token], end + i)] for i, token in enumerate(DRAFTED)]
    at_once = [[sequence(0, DRAFTED, end, num_drafts=len(DRAFTED) - 1)]]
    prompt = [[sequence(0, FIRST, 0)]]
    ((expected, _),) = scores(tmp_path, 1, batches=[*prompt, *one_by_one])
    ((found, _),) = scores(tmp_path, 1, batches=[*prompt, *at_once])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
