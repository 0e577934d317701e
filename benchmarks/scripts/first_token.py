"""Asks until a first token streams: first_token.py URL MODEL. Runs in a pod, imports nothing of ours."""

import json
import sys
import time

import openai

url, model = sys.argv[1:3]
client = openai.OpenAI(base_url=url, api_key="not-needed", max_retries=0, timeout=20)
print("polling", flush=True)
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    try:
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "What is 17 plus 25?"}],
            max_tokens=16,
            temperature=0,
            stream=True,
        )
        if any(chunk.choices and chunk.choices[0].delta.content for chunk in stream):
            print(json.dumps({"first_token_time": time.time()}), flush=True)
            break
    except openai.OpenAIError:
        time.sleep(0.05)
else:
    sys.exit("no token within 120 s")
