"""Knock. Prints the HTTP status by which each server answers a key: python knock.py KEY URL…

"-" is no KEY. One request each, without retries; what is no answer ends the program with a traceback.
"""

import sys
import urllib.error
import urllib.request

key, *urls = sys.argv[1:]
headers = {"Authorization": f"Bearer {key}"} if key != "-" else {}
for url in urls:
    request = urllib.request.Request(f"{url}/models", headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            print(answer.status)
    except urllib.error.HTTPError as refusal:
        print(refusal.code)
