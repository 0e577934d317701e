from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.runtime.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("llama")
    make_checkpoint(folder)
    return folder
