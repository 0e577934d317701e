"""Speculative decoding, the engine's side: what to guess of each sequence, and whether that pays.

The worker draws every token as it would without guesses (`octavo.sampling.host.verify`), so that nothing in
here can change an answer: it decides how fast it comes.
"""
