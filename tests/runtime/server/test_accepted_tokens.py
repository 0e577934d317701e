"""Usage tells how many of an answer's tokens were guessed, where the server guesses.

Whether guesses pay, and so whether any run, is measured: on a busy machine perhaps none. That those that ran
are counted is shown without a clock too, in tests/runtime/engine/test_token_outputs.py.
"""

from __future__ import annotations

import openai

from tests.support.runtime.server_process import ServerProcess

PASSAGE = "replicas: 2, gpu: 1, memory: 16Gi, port: 8000, model: demo, cache: 50Gi, queue: 4; " * 3


def test_usage_counts_the_guesses_that_came_true(server: ServerProcess) -> None:
    flags = ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 8}')
    told = []
    with ServerProcess(*flags) as guessing:
        guessing.wait_ready()
        for one in (server, guessing):
            client = openai.OpenAI(base_url=f"{one.url}/v1", api_key="none", max_retries=0)
            whole = client.completions.create(
                model="demo", prompt=PASSAGE, temperature=0, max_tokens=80
            )
            *_, last = client.completions.create(
                model="demo",
                prompt=PASSAGE,
                temperature=0,
                max_tokens=80,
                stream=True,
                stream_options={"include_usage": True},
            )
            told.append((whole.choices[0].text, whole.usage, last.usage))
        counted = guessing.metrics()["octavo_spec_decode_accepted_tokens_total"]
    (plain, without, _), (guessed, usage, streamed) = told
    assert guessed == plain
    assert without is not None
    assert without.completion_tokens_details is None
    found = []
    for each in (usage, streamed):
        assert each is not None
        assert each.completion_tokens_details is not None
        assert each.completion_tokens_details.accepted_prediction_tokens is not None
        found.append(each.completion_tokens_details.accepted_prediction_tokens)
        assert 0 <= found[-1] < each.completion_tokens
    assert sum(found) == counted
