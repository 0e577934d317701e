"""Models without a head: what is said of a request for text to one that can only embed or score.

Apart from the engine's checks, because processes without torch say it too.
"""

from __future__ import annotations

from octavo.errors import InvalidParameterError


def no_head(*uses: str) -> InvalidParameterError:
    """The answer to a request for text, whatever asked for it.

    Args:
        uses: What the model answers instead, as who asks calls it.
    """
    instead = f"Use {' or '.join(uses)}, or serve" if uses else "Serve"
    return InvalidParameterError(
        "model",
        "The model has no head to generate with: the architecture in config.json is a base class or "
        f"an encoder, or its checkpoint was saved without a head. {instead} one that ends in ForCausalLM "
        "and holds its head.",
    )
