"""A tokenizer of the demo model's training, which stands beside the packages and is not installed."""

import os

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

from transformers import PreTrainedTokenizerFast

from training.demo_model.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as training makes it."""
    return train_tokenizer(seed=7)
