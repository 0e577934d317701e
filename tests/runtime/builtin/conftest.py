"""The training package lives at the root of the repository and is not installed."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[3]))

from training.demo_model.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    """The tokenizer as training makes it."""
    return train_tokenizer(seed=7)
