"""Programs that run inside a client pod, which is made of the runtime's image.

They are sent as text to that image's Python. The load measures with `octavo.client`, as the benchmarks
do; the question is asked with the `openai` client, as an application would.
"""
