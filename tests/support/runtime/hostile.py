"""Hostile load: requests that a stranger sends to break a server, and what must still hold afterwards.

`python -m tests.support.runtime.hostile --requests 50000` (`make hostile`) starts a server on loopback and
sends so many, a fifth of them with a schema of its own; a test sends a smaller part of them. All is drawn
from a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.runtime.footprint import Footprint, leaks
from tests.support.runtime.server_process import ServerProcess

SECONDS = 120.0
"""A request that is not answered by then is a fault."""
FLAGS = ("--max-model-len", "512", "--max-num-seqs", "16", "--max-queued-requests", "64")
_CHAT, _TEXT = "/v1/chat/completions", "/v1/completions"
_PATHS = (
    *(_CHAT, _TEXT, "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/score", "/v1/rerank"),
    *("/tokenize", "/detokenize", "/v1/messages/count_tokens", "/v1/models/x", "/load", "/nothing"),
)
_ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 0.5, 1e308, 10**30, -(10**400), "", "x", "\u0000", "𝄞" * 40, "\ufffe"),
    *([], {}, [[]], [None], [1, "a"], {"a": {}}, [[5] * 600], "a" * 5000, {"type": "object"}),
)
_FIELDS = (
    *("model", "messages", "prompt", "max_tokens", "n", "stop", "temperature", "top_p", "top_k"),
    *("seed", "logprobs", "top_logprobs", "logit_bias", "stream", "stream_options", "tools"),
    *("tool_choice", "response_format", "structured_outputs", "echo", "suffix", "min_tokens"),
    *("bad_words", "allowed_token_ids", "prompt_logprobs", "truncate_prompt_tokens", "best_of"),
    *("use_beam_search", "priority", "cache_salt", "user", "input", "text", "instructions"),
)
_LAST = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
_PATTERNS = (
    *(
        "(a+)+$",
        "(a|a)*b",
        "(.*)*x",
        "((a{1,50}){1,50}){1,50}",
        "a{1,2000000000}",
        "(?=a)b",
        "[",
        "\\1",
    ),
    *(
        "(" * 200 + "a" + ")" * 200,
        "(a?){64}a{64}",
        "[^" + "a" * 3000 + "]*",
        "(?R)",
        "\\p{L}{5000}",
    ),
)


@dataclass
class Outcome:
    """What came of it: statuses by kind, and what must not have happened."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Hostility:
    """Draws requests as bytes of HTTP, each with its kind."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 -- to be repeated
        self._kinds: tuple[Callable[[], tuple[str, bytes]], ...] = (
            *(self._broken_json, self._wrong_type, self._odd_bytes, self._deep, self._orphan_calls),
            *(
                self._pattern,
                self._endless_schema,
                self._plain,
                self._no_http,
                self._other_routes,
            ),
            *(self._distinct_schema,) * 3,
        )
        self._count = 0

    def draw(self) -> tuple[str, bytes]:
        """Kind and bytes of a request."""
        self._count += 1
        kind = self._random.choice(self._kinds)
        path, body = kind()
        name = kind.__name__.strip("_")
        return name, body if path == "" else _post(path, body)

    def _base(self) -> dict[str, Any]:
        body: dict[str, Any] = {"model": "demo", "max_tokens": self._random.randint(1, 12)}
        if self._random.random() < 0.5:
            body["messages"] = [{"role": "user", "content": "Hello"}]
        else:
            body["prompt"] = "Hello"
        if self._random.random() < 0.4:
            body["stream"] = True
        return body

    def _path(self, body: dict[str, Any]) -> str:
        return _CHAT if "messages" in body else _TEXT

    def _plain(self) -> tuple[str, bytes]:
        body = self._base() | {"max_tokens": self._random.choice([1, 8, 40]), "ignore_eos": True}
        return self._path(body), json.dumps(body).encode()

    def _broken_json(self) -> tuple[str, bytes]:
        text = bytearray(json.dumps(self._base()).encode())
        for _ in range(self._random.randint(1, 4)):
            place = self._random.randrange(len(text))
            match self._random.randrange(3):
                case 0:
                    del text[place:]
                case 1:
                    text[place] = self._random.randrange(256)
                case _:
                    text[place:place] = self._random.choice(
                        [b"NaN", b"-Infinity", b"\\ud800", b"\\udc00\\ud800", b'"', b"{", b"1e999"]
                    )
            if not text:
                break
        return self._random.choice(_PATHS), bytes(text)

    def _wrong_type(self) -> tuple[str, bytes]:
        body = self._base()
        for _ in range(self._random.randint(1, 3)):
            body[self._random.choice(_FIELDS)] = self._random.choice(_ODD)
        path = self._path(body) if self._random.random() < 0.7 else self._random.choice(_PATHS)
        return path, json.dumps(body).encode()

    def _odd_bytes(self) -> tuple[str, bytes]:
        return self._random.choice(_PATHS), self._random.randbytes(self._random.randint(0, 300))

    def _deep(self) -> tuple[str, bytes]:
        depth = self._random.choice([90, 101, 1000, 50_000])
        nested = self._random.choice(
            [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth]
        )
        name = self._random.choice(["messages", "response_format", "tools", "prompt", "metadata"])
        return _CHAT, b'{"model":"demo","%s":%s}' % (name.encode(), nested)

    def _orphan_calls(self) -> tuple[str, bytes]:
        messages: list[Any] = [
            {"role": "user", "content": self._random.choice(_ODD)},
            {"role": "tool", "tool_call_id": "nobody", "content": "1"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}],
            },
            {"role": "assistant", "content": None},
            {
                "role": "system",
                "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x"}}],
            },
        ]
        self._random.shuffle(messages)
        body = {
            "model": "demo",
            "messages": messages[: self._random.randint(1, 5)],
            "max_tokens": 2,
        }
        return _CHAT, json.dumps(body).encode()

    def _pattern(self) -> tuple[str, bytes]:
        pattern = self._random.choice(_PATTERNS)
        body = self._base() | {"structured_outputs": {"regex": pattern}}
        if self._random.random() < 0.5:
            schema = {"type": "string", "pattern": pattern}
            body |= {"structured_outputs": {"json": schema}}
        return self._path(body), json.dumps(body).encode()

    def _endless_schema(self) -> tuple[str, bytes]:
        loop = {"$ref": "#/$defs/a"}
        schema = self._random.choice(
            [
                {"$defs": {"a": loop}, **loop},
                {"$defs": {"a": {"type": "array", "items": loop, "minItems": 1}}, **loop},
                {"$defs": {"a": {"anyOf": [loop, loop]}}, **loop},
                {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
                {"enum": [str(number) for number in range(5000)]},
                {"type": "integer", "minimum": 10**300},
            ]
        )
        body = self._base() | {"structured_outputs": {"json": schema}}
        if self._random.random() < 0.3:
            tag = {"type": "json_schema", "json_schema": schema}
            for _ in range(self._random.choice([1, 15])):
                tag = {"type": "star", "content": tag}
            body |= {"structured_outputs": {"structural_tag": {"format": tag}}}
        return self._path(body), json.dumps(body).encode()

    def _distinct_schema(self) -> tuple[str, bytes]:
        name = f"field_{self._count}"
        schema = {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}
        body = self._base() | {"structured_outputs": {"json": schema}}
        return self._path(body), json.dumps(body).encode()

    def _other_routes(self) -> tuple[str, bytes]:
        """What they take, with something odd in it."""
        several: dict[str, Any] = {"input": "Hello", "max_output_tokens": 5}
        messages: dict[str, Any] = {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 5,
        }
        path, given = self._random.choice(
            [
                ("/v1/responses", several),
                ("/v1/messages", messages),
                ("/v1/embeddings", {"input": ["a", "b"]}),
                ("/tokenize", {"prompt": "a"}),
                ("/detokenize", {"tokens": [5]}),
            ]
        )
        body = {"model": "demo", **given}
        if self._random.random() < 0.3:
            body["stream"] = True
        if self._random.random() < 0.7:
            name = self._random.choice([*body, *_FIELDS])
            body[name] = self._random.choice(_ODD)
        return path, json.dumps(body).encode()

    def _no_http(self) -> tuple[str, bytes]:
        return "", self._random.choice(
            [
                self._random.randbytes(200),
                b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 400 + b"\r\n",
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n{}",
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
                b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
                b"GET /health HTTP/1.1\r\n\r\n" + _LAST,
                b"GET /health HTTP/2.0\r\nhost: a b\r\n\r\n" + _LAST,
                b"POST /tokenize HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                b"GET /%ff%00 HTTP/1.1\r\nhost: x\r\n\r\n" * 20 + _LAST,
                b"OPTIONS * HTTP/1.1\r\norigin: null\r\n" + _LAST.partition(b"\r\n")[2],
            ]
        )


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def send_all(port: int, num_requests: int, seed: int, num_at_once: int = 24) -> Outcome:
    """Sends them; each sender may be slow, half-closed, or hang up at any moment."""
    outcome, hostility = Outcome(), Hostility(seed)
    fate = random.Random(seed + 1)  # noqa: S311 -- to be repeated
    places = asyncio.Semaphore(num_at_once)

    async def one(kind: str, request: bytes, manner: str, moment: float) -> None:
        async with places:
            try:
                async with asyncio.timeout(SECONDS):
                    status, answer = await _exchange(port, request, manner, moment)
            except TimeoutError:
                outcome.faults.append(f"{kind} ({manner}) was not answered: {request[-300:]!r}")
                return
            except ConnectionRefusedError:
                outcome.faults.append(f"{kind} ({manner}): nobody listens any more")
                return
            except OSError:
                status, answer = 0, b""
            outcome.statuses[kind, status] += 1
            if status >= 500:
                outcome.faults.append(f"{kind}: {answer[:300]!r} to {request[-300:]!r}")

    manners = ("whole",) * 12 + (
        "slow",
        "half-closed",
        "cut",
        "cancelled",
        "cancelled",
        "cancelled",
    )
    waiting: set[asyncio.Task[None]] = set()
    for _ in range(num_requests):
        kind, request = hostility.draw()
        task = asyncio.create_task(one(kind, request, fate.choice(manners), fate.random()))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        if len(waiting) >= 2 * num_at_once:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if waiting:
        await asyncio.wait(waiting)
    return outcome


async def _exchange(port: int, request: bytes, manner: str, moment: float) -> tuple[int, bytes]:
    """The status, 0 where there is none, and the answer's begin."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        cut = int(len(request) * moment)
        if manner == "slow":
            writer.write(request[:cut])
            await asyncio.sleep(0.02)
            writer.write(request[cut:])
        else:
            writer.write(request[:cut] if manner == "cut" else request)
        if manner == "cut":
            await asyncio.sleep(0.02 * moment)
            return 0, b""
        if manner == "half-closed":
            writer.write_eof()
        if manner == "cancelled":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2 * moment):
                    await reader.read(200)
            return 0, b""
        answer = await reader.read(65536)
        while part := await reader.read(65536):
            answer = (answer + part)[:65536]
        return (int(answer[9:12]) if answer[:5] == b"HTTP/" else 0), answer
    finally:
        writer.close()


@contextmanager
def hostile_server(*flags: str) -> Iterator[tuple[ServerProcess, Path]]:
    """A server that is ready, and its own folder for what is temporary."""
    with (
        tempfile.TemporaryDirectory(prefix="hostile-") as folder,
        ServerProcess(*FLAGS, *flags, TMPDIR=folder) as server,
    ):
        yield server.wait_ready(), Path(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--api-server-count", default="1")
    options = parser.parse_args()
    with hostile_server("--api-server-count", options.api_server_count) as (server, temporary):
        port = int(server.url.rpartition(":")[2])
        asyncio.run(
            send_all(port, 1000, options.seed + 1)
        )  # caches are filled before memory is looked at
        before, began = Footprint.of(server, temporary), time.monotonic()
        outcome = asyncio.run(send_all(port, options.requests, options.seed))
        seconds = time.monotonic() - began
        is_alive = server.process.poll() is None
        after = Footprint.of(server, temporary) if is_alive else before
        grown = (after.resident_bytes - before.resident_bytes) / 2**20
        faults = [*leaks(server, temporary, before, 192 * 2**20), *outcome.faults]
    for (kind, status), count in sorted(outcome.statuses.items()):
        print(f"{kind:16} {status or 'none':>4} {count:6}")
    print(f"{options.requests} requests in {seconds:.0f} s, {grown:+.0f} MiB, {len(faults)} faults")
    for fault in faults[:20]:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
