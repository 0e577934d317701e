"""Limits of API keys: how they are written, counted, told and kept to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import InvalidConfigurationError
from octavo.server.http.rate_limits import RateLimits
from octavo.server.openai.api_errors import ApiError
from octavo.server.process.api_keys import Key, read_keys
from octavo.server.process.key_limits import KeyLimits
from tests.support.runtime.described_answers import check_described
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import ServerProcess, eventually

KEYS: list[dict[str, Any]] = [
    {"key": "sk-free", "name": "free"},
    {"key": "sk-few", "name": "few", "requests_per_minute": 2},
    {"key": "sk-few-new", "name": "few", "requests_per_minute": 2},
    {"key": "sk-short", "name": "short", "tokens_per_minute": 20},
    {"key": "sk-one", "name": "one", "max_concurrent_requests": 1},
    {"key": "sk-other", "name": "other", "models": ["elsewhere"]},
    {"key": "sk-salted", "name": "salted", "cache_salt": "s"},
]


def test_a_file_may_hold_entries_beside_files_of_plain_keys(tmp_path: Path) -> None:
    (tmp_path / "blue").write_text('\n{"key": "b", "requests_per_minute": 5, "priority": -2}')
    (tmp_path / "many").write_text(json.dumps([{"key": "m"}, {"key": "n", "name": "named"}]))
    (tmp_path / "plain").write_text("p q")
    found = {key.name: key.limits for key in read_keys(tmp_path)}
    assert found == {
        "blue": KeyLimits(requests_per_minute=5, priority=-2),
        "many": KeyLimits(),
        "named": KeyLimits(),
        "plain": KeyLimits(),
        "plain:2": KeyLimits(),
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a"}',
        '{"key": ""}',
        '{"key": "sk-secret", "requests_per_minut": 5}',
        '{"key": "sk-secret", "requests_per_minute": 0}',
        '{"key": "sk-secret", "models": []}',
        '{"key": "sk-secret", "name": "a b"}',
        '[{"key": "sk-secret"}',
        '{"key": "sk-secret", "requests_per_minute": 5, "requests_per_minute": 500}',
    ],
)
def test_an_entry_that_is_wrong_is_refused_without_its_key(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(InvalidConfigurationError, match="keys") as refusal:
        read_keys(file)
    assert "secret" not in str(refusal.value)


def test_a_minutes_requests_fill_up_evenly() -> None:
    rates, key = RateLimits(), Key("a", b"", KeyLimits(requests_per_minute=6))
    for _ in range(6):
        rates.enter(key, now=100.0)
    with pytest.raises(ApiError) as refusal:
        rates.enter(key, now=100.0)
    assert refusal.value.status == 429
    assert refusal.value.headers["Retry-After"] == "10"
    with pytest.raises(ApiError):
        rates.enter(key, now=109.0)
    rates.enter(key, now=110.0)
    assert rates.headers(key, now=110.0) == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }
    for _ in range(6):
        rates.enter(key, now=1000.0)


def test_tokens_are_counted_when_they_are_known() -> None:
    rates, key = RateLimits(), Key("a", b"", KeyLimits(tokens_per_minute=60))
    rates.enter(key, now=0.0)
    rates.charge(key, 90, now=0.0)
    with pytest.raises(ApiError, match="60 tokens per minute"):
        rates.enter(key, now=30.0)
    rates.enter(key, now=31.0)
    assert rates.headers(key, now=45.0)["x-ratelimit-remaining-tokens"] == "15"


def test_requests_under_way_are_counted_and_a_refused_one_takes_nothing() -> None:
    limits = KeyLimits(max_concurrent_requests=1, requests_per_minute=2)
    rates, key = RateLimits(), Key("a", b"", limits)
    rates.enter(key, now=0.0)
    for _ in range(5):
        with pytest.raises(ApiError, match="under way"):
            rates.enter(key, now=0.0)
    rates.leave(key)
    rates.enter(key, now=0.0)
    rates.enter(Key("b", b"", limits), now=0.0)


SIZES = (2, 3, 5, 20, 50)
asks = st.lists(
    st.tuples(
        st.sampled_from(SIZES),
        st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.0, 31.0, 64.0]),
        st.sampled_from([1, 1, 4, 30, 120]),
    ),
    max_size=120,
)


@pytest.mark.parametrize("kind", ["requests", "tokens"])
@given(asks=asks)
def test_keys_of_a_name_have_together_what_the_largest_limit_allows_and_each_its_own(
    kind: str, asks: list[tuple[int, float, int]]
) -> None:
    """In whichever turn they ask, and however a limit changes: to another key's or to a new one."""
    rates, now, admitted = RateLimits(), 0.0, []
    for size, seconds, num_tokens in asks:
        now += seconds
        limits = (
            KeyLimits(requests_per_minute=size)
            if kind == "requests"
            else KeyLimits(tokens_per_minute=size)
        )
        key = Key("a", b"", limits)
        try:
            rates.enter(key, now)
        except ApiError:
            continue
        rates.charge(key, num_tokens, now)
        admitted.append((size, now, num_tokens if kind == "tokens" else 1))
    for most in SIZES:
        those = [(at, amount) for size, at, amount in admitted if size <= most]
        for first, (start, _) in enumerate(those):
            used = 0
            for at, amount in those[first:]:
                # Of the last request it is not known what it will take.
                assert used + 1 <= most * (1 + (at - start) / 60) + 1e-6
                used += amount


def admits(rates: RateLimits, size: int, now: float, *, most: int = 1000) -> int:
    """How many more requests a key with that limit gets at once."""
    key = Key("a", b"", KeyLimits(requests_per_minute=size))
    for number in range(most):
        if rates.headers(key, now)["x-ratelimit-remaining-requests"] == "0":
            with pytest.raises(ApiError):
                rates.enter(key, now)
            return number
        rates.enter(key, now)
    return most


def test_a_limit_that_is_raised_adds_the_difference_and_a_lowered_one_nothing() -> None:
    rates = RateLimits()
    assert admits(rates, 5, 0.0) == 5
    assert admits(rates, 50, 0.0) == 45
    assert [admits(rates, size, 0.0) for size in (49, 5, 50, 4)] == [0] * 4
    assert admits(rates, 60, 0.0) == 10


def test_a_key_is_not_kept_from_its_limit_by_one_with_a_larger_limit() -> None:
    """As in a rotation: clients go over one by one."""
    rates = RateLimits()
    assert admits(rates, 50, 0.0, most=40) == 40
    assert admits(rates, 5, 0.0) == 5
    assert admits(rates, 50, 0.0) == 5
    key = Key("a", b"", KeyLimits(requests_per_minute=5))
    with pytest.raises(ApiError, match="its 5 requests") as refusal:
        rates.enter(key, 0.0)
    assert refusal.value.headers["Retry-After"] == "12"
    for _ in range(10):
        rates.enter(Key("a", b"", KeyLimits(requests_per_minute=50)), 12.0)
    with pytest.raises(ApiError, match="keys of its name, the 50 requests"):
        rates.enter(key, 12.0)
    rates.enter(key, 13.5)


def test_a_debt_is_paid_at_the_limit_that_holds_now() -> None:
    rates = RateLimits()
    rates.charge(Key("a", b"", KeyLimits(tokens_per_minute=100)), 100_000, now=0.0)
    rates.enter(Key("a", b"", KeyLimits(tokens_per_minute=200_000)), now=0.0)


def test_limits_that_are_gone_leave_nothing_behind() -> None:
    rates = RateLimits()
    for size in range(1, 500):
        rates.enter(Key("a", b"", KeyLimits(requests_per_minute=size)), now=60.0 * size)
    assert len(rates._accounts["a"].meters["requests"].buckets) < 5


def test_a_request_may_ask_for_a_later_turn_alone() -> None:
    assert [KeyLimits(priority=5).priority_of(asked) for asked in (0, 3, 7, -1)] == [5, 5, 7, 5]
    assert [KeyLimits(priority=-5).priority_of(asked) for asked in (0, -9, 2)] == [-5, -5, 2]
    assert KeyLimits(cache_salt="a").salt_of("b") != KeyLimits(cache_salt="ab").salt_of(None)
    assert KeyLimits().salt_of("b") == "b"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    folder = tmp_path_factory.mktemp("keys")
    file = folder / "keys.json"
    file.write_text(json.dumps(KEYS))
    with FaultyServer(folder, "--api-key-file", str(file)) as process:
        process.wait_ready()
        yield process


def ask(server: ServerProcess, key: str, prompt: object = "a", **fields: Any) -> httpx.Response:
    body = {"model": "demo", "prompt": prompt, "max_tokens": 4, "ignore_eos": True, **fields}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=60)
    check_described(answer)
    return answer


def test_a_key_s_requests_run_out_whichever_of_its_keys_is_used(limited: ServerProcess) -> None:
    first = ask(limited, "sk-few")
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert ask(limited, "sk-few-new").status_code == 200
    refused = ask(limited, "sk-few")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    headers = {"Authorization": "Bearer sk-few"}
    counted = httpx.post(f"{limited.url}/tokenize", json={"model": "demo"}, headers=headers)
    assert counted.status_code == 429  # as all that is posted
    check_described(counted)
    models = httpx.get(f"{limited.url}/v1/models", headers=headers)
    assert models.status_code == 200  # it costs nothing
    free = ask(limited, "sk-free")
    assert free.status_code == 200
    assert not any(name.startswith("x-ratelimit") for name in free.headers)


def test_what_is_refused_costs_no_tokens(limited: ServerProcess) -> None:
    """The engine refuses it, not the route."""
    left = []
    for _ in range(2):
        refused = ask(limited, "sk-short", [5] * 9, min_tokens=1, structured_outputs={"regex": "a"})
        assert refused.status_code == 400, refused.text
        left.append(int(refused.headers["x-ratelimit-remaining-tokens"]))
    assert left == [20, 20]
    metrics = httpx.get(f"{limited.ops_url}/metrics").text
    (line,) = (
        one for one in metrics.splitlines() if 'finish_reason="error"' in one and "_total" in one
    )
    assert float(line.split()[-1]) == 0


def test_a_key_s_tokens_run_out(limited: ServerProcess) -> None:
    assert ask(limited, "sk-short", [5] * 30).status_code == 200
    assert ask(limited, "sk-short").status_code == 429


def test_one_request_at_a_time(limited: FaultyServer) -> None:
    body = {"model": "demo", "prompt": "a", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    headers = {"Authorization": "Bearer sk-one"}
    url = f"{limited.url}/v1/completions"
    with (
        limited.faults.slow_steps(),
        httpx.stream("POST", url, json=body, headers=headers, timeout=60) as stream,
    ):
        lines = stream.iter_lines()  # its end would close the connection
        next(lines)
        assert ask(limited, "sk-one").status_code == 429
    eventually(lambda: ask(limited, "sk-one").status_code == 200)


def test_a_key_may_use_its_models_alone(limited: ServerProcess) -> None:
    refused = ask(limited, "sk-other")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "model_not_allowed"
    headers = {"Authorization": "Bearer sk-other"}
    assert httpx.get(f"{limited.url}/v1/models", headers=headers).json()["data"] == []


def test_a_key_s_prefixes_are_its_own(limited: ServerProcess) -> None:
    def cached(key: str) -> int:
        usage = ask(limited, key, [9] * 100).json()["usage"]
        found: int = usage["prompt_tokens_details"]["cached_tokens"]
        return found

    assert [cached("sk-free"), cached("sk-free")] == [0, 96]
    assert [cached("sk-salted"), cached("sk-salted")] == [0, 96]


def test_log_and_metrics_tell_the_name_and_never_the_key(limited: ServerProcess) -> None:
    before = limited.metrics().get('octavo_key_tokens_total{key="free"}', 0)
    assert ask(limited, "sk-free", [5] * 10).status_code == 200
    eventually(lambda: limited.metrics()['octavo_key_tokens_total{key="free"}'] == before + 14)
    eventually(lambda: any(line.get("key") == "free" for line in limited.log))
    assert not any("sk-" in json.dumps(line) for line in limited.log)
    text = httpx.get(f"{limited.ops_url}/metrics").text
    assert "sk-" not in text
