"""What counts as active decides whether an engine that makes no steps is stalled."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.engine.admission import Admission
from octavo.engine.messages import EngineStats
from octavo.model_source import resolve
from octavo.sampling_params import SamplingParams
from octavo.server.openai.gate import OwnGate
from octavo.server.openai.generation import Generator, PromptRun
from octavo.server.openai.prompts import Prompt
from octavo.tokenizer import load_tokenizer


def test_a_request_that_fails_before_it_is_sent_is_not_active() -> None:
    stats = EngineStats(0, 0, 0, 0, 0, 0, 0, 0, 0)
    client: Any = SimpleNamespace(stats=stats, num_under_way=0)
    metrics: Any = None
    tokenizer = load_tokenizer(resolve("builtin://demo"))
    admission = Admission(10, 10)
    generator = Generator(client, tokenizer, (), OwnGate(client, admission), metrics)
    # No prompt has such a token; the tokenizer raises what it raises.
    run = PromptRun(Prompt([-1]), SamplingParams())

    async def enter() -> None:
        async with generator.generate("r", "id", [run], arrival=time.time()):
            pass

    with pytest.raises(OverflowError):
        asyncio.run(enter())
    assert generator.num_active == 0
