"""Programs that run inside a client pod, with the `openai` client as an application would use it.

They are sent as text to the Python of the runtime image, so each stands alone and imports nothing of ours.
"""
