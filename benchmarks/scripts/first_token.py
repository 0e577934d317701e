"""First token. Asks until a first token streams: first_token.py URL MODEL. Runs in a pod of the runtime's
image."""

import asyncio
import json
import sys
import time

import aiohttp

from octavo.client import Client, UnexpectedAnswerError

url, model = sys.argv[1:3]
BODY = {
    "model": model,
    "messages": [{"role": "user", "content": "What is 17 plus 25?"}],
    "max_tokens": 16,
    "temperature": 0,
}


async def first_token_time() -> float:
    """Seconds since 1970."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        # A connection of its own each time: one may have led to nowhere.
        async with Client(url, timeout_seconds=20) as client:
            sent = time.time()
            try:
                answer = await client.stream("chat/completions", BODY)
            except (OSError, TimeoutError, aiohttp.ClientError, UnexpectedAnswerError):
                await asyncio.sleep(0.05)
                continue
        if answer.first_token_seconds is not None:
            return sent + answer.first_token_seconds
    sys.exit("no token within 120 s")


print("polling", flush=True)
print(json.dumps({"first_token_time": asyncio.run(first_token_time())}), flush=True)
