"""Servers under test, as the runner names them in the environment: where they listen and what they serve."""

from __future__ import annotations

import os

MODEL = "demo"
ENCODER = "encoder"
# No key is asked for; the clients refuse to send none.
API_KEY = "none"


def url() -> str:
    """The API of the server with the demo model, `/v1` included."""
    return os.environ["OCTAVO_SUITES_URL"]


def encoder_url() -> str:
    """The API of the server with the encoder, `/v1` included."""
    return os.environ["OCTAVO_SUITES_ENCODER_URL"]


def model_folder() -> str:
    """The demo model's files."""
    return os.environ["OCTAVO_SUITES_MODEL"]
