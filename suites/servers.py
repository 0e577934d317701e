"""Servers under test: the demo model and an encoder, each `octavo serve` on ports that the kernel chooses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import octavo.builtin
from suites.environment import encoder_folder
from tests.support.runtime.server_process import ServerProcess


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """The environment variables by which the cases find them."""
    with ExitStack() as stack:
        demo = stack.enter_context(ServerProcess())
        encoder = stack.enter_context(
            ServerProcess("--served-model-name", "encoder", model=str(encoder_folder()))
        )
        yield {
            "OCTAVO_SUITES_URL": f"{demo.wait_ready().url}/v1",
            "OCTAVO_SUITES_ENCODER_URL": f"{encoder.wait_ready().url}/v1",
            "OCTAVO_SUITES_MODEL": str(Path(octavo.builtin.__file__).parent / "demo"),
            # Nothing is asked of anybody but these two.
            "HF_HUB_OFFLINE": "1",
            "OPENAI_API_KEY": "none",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "HAYSTACK_TELEMETRY_ENABLED": "False",
            "LANGSMITH_TRACING": "false",
        }
