"""Load. Keeps N requests running until its input closes or SECONDS are over, without a single retry.

python load.py URL MODEL CONCURRENCY SECONDS MAX_TOKENS [KEY]

Prints one line of JSON at the end: {"ok", "refused", "failed", "tokens", "errors": [the first ten]}. A 429
is the server's honest refusal and counted apart; every other error is a failure. Each answer is read to
its end as a stream, and one that ends without a finish_reason was cut off: a failure too.
"""

import asyncio
import json
import sys
import time

from octavo.client import Client, UnexpectedAnswerError

url, model = sys.argv[1:3]
concurrency, seconds, max_tokens = (int(word) for word in sys.argv[3:6])
key = sys.argv[6] if len(sys.argv) > 6 else None
total = {"ok": 0, "refused": 0, "failed": 0, "tokens": 0}
errors: list[str] = []
stop = asyncio.Event()


async def request(client: Client, number: int) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"What is {number % 90 + 10} plus 25?"}],
        "max_tokens": max_tokens,
        "temperature": 1.0,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    try:
        answer = await client.stream("chat/completions", body)
        total["tokens"] += answer.completion_tokens
        if answer.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"the stream ended with finish_reason {answer.finish_reason}")
        total["ok"] += 1
    except Exception as error:  # whatever it was, the request failed
        if isinstance(error, UnexpectedAnswerError) and error.status == 429:
            total["refused"] += 1
        else:
            total["failed"] += 1
            cause = f" ({error.__cause__!r})" if error.__cause__ else ""
            errors.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}{cause}")
        await asyncio.sleep(0.2)


async def worker(client: Client, first: int) -> None:
    number = first
    while not stop.is_set():
        await request(client, number)
        number += concurrency


async def main() -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, stop.set)
    loop.run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: stop.set())
    async with Client(url, key, timeout_seconds=60) as client:
        print("started", flush=True)
        await asyncio.gather(*(worker(client, first) for first in range(concurrency)))
    print(json.dumps({**total, "errors": errors[:10]}), flush=True)


asyncio.run(main())
