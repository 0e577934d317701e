"""Float8 format of a quantised KV cache: e4m3fn (Micikevicius et al., 2022)."""

from __future__ import annotations

from typing import Final

# Largest finite value; there is no infinity, so casts saturate here.
E4M3_MAX: Final = 448.0
