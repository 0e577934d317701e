"""Question. Asks one question and prints the answer as it streams: python ask.py URL MODEL QUESTION [KEY]."""

import sys

import openai

url, model, question = sys.argv[1:4]
key = sys.argv[4] if len(sys.argv) > 4 else "not-needed"
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=30)
stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": question}],
    temperature=0,
    max_tokens=64,
    stream=True,
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()
