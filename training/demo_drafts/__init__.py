"""Guessers for `builtin://demo`: a draft model and an EAGLE-3 head, trained on the demo model's answers.

They are made for figures of trained guesses (`benchmarks.speculation --model trained`), and are not shipped.
"""

import os

# As for the demo model itself: threads that wait must sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
